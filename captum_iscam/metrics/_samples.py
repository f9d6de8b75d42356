"""The number of perturbed samples, checked."""


def check_samples(n_perturb_samples: int) -> None:
    """Raises unless there is at least one perturbed sample per example."""
    if n_perturb_samples < 1:
        raise ValueError(
            f"n_perturb_samples must be at least 1, got {n_perturb_samples}. "
            "Leave it out for the default."
        )
