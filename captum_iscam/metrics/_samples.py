"""Random samples: how many, and where they are drawn."""

import torch

from captum_iscam._utils.validation import as_count


def check_samples(n_perturb_samples: int) -> None:
    """Raises unless there is at least one perturbed sample per example."""
    as_count("n_perturb_samples", n_perturb_samples, "Leave it out for the default.")


def home_of(generator: torch.Generator | None) -> torch.device:
    """Returns the generator's device, or the CPU, where a seed is alike everywhere."""
    return torch.device("cpu") if generator is None else generator.device
