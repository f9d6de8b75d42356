"""The number of perturbed samples, checked."""

from captum_iscam._batching import as_count


def check_samples(n_perturb_samples: int) -> None:
    """Raises unless there is at least one perturbed sample per example."""
    as_count("n_perturb_samples", n_perturb_samples, "Leave it out for the default.")
