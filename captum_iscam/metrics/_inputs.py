"""The caller's inputs and baselines, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_iscam._scoring import Baselines


@dataclass(frozen=True)
class Batch:
    """Inputs and baselines of `N` examples; each baseline fits its input."""

    inputs: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]

    @property
    def num_examples(self) -> int:
        """`N`."""
        return self.inputs[0].shape[0]

    @property
    def device(self) -> torch.device:
        """Where all inputs live."""
        return self.inputs[0].device


def check_batch(inputs: Tensor | tuple[Tensor, ...], baselines: Baselines) -> Batch:
    """Returns inputs and baselines as tuples of tensors, or raises what is wrong."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                "inputs must be a tensor or a tuple of tensors, got "
                f"{type(tensor).__name__}. Convert it with torch.as_tensor."
            )
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len({shape[:1] for shape in shapes}) != 1 or shapes[0][:1] in ((), (0,)):
        raise ValueError(
            "inputs must share a first dimension of at least one example, got shapes "
            f"{shapes}. Add it with unsqueeze(0)."
        )
    values = baselines if isinstance(baselines, tuple) else (baselines,) * len(tensors)
    if len(values) != len(tensors) or (len(tensors) > 1 and _is_tensor(baselines)):
        raise ValueError(
            f"baselines must hold one entry per input, got {len(values)} for "
            f"{len(tensors)} inputs. Pass a tuple in the order of the inputs."
        )
    pairs = zip(values, tensors, strict=True)
    return Batch(tensors, tuple(check_baseline(value, like) for value, like in pairs))


def _is_tensor(baselines: Baselines) -> bool:
    return isinstance(baselines, Tensor)


def check_baseline(
    value: Tensor | float | None, like: Tensor, name: str = "baselines"
) -> Tensor:
    """Returns a baseline that broadcasts to its input; None is 0."""
    if value is None or isinstance(value, (int, float)):
        return torch.full((1,) * like.dim(), value or 0, dtype=like.dtype).to(
            like.device
        )
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be numbers or tensors, got {type(value).__name__}. "
            "Use 0 for the usual baseline."
        )
    fits = value.shape[1:] == like.shape[1:] and value.shape[0] in (1, len(like))
    if not fits or value.device != like.device:
        raise ValueError(
            f"{name} must have the shape {tuple(like.shape)} or "
            f"{(1, *like.shape[1:])} of its input, on {like.device}, got "
            f"{tuple(value.shape)} on {value.device}. "
            "Pass a number to use one value everywhere."
        )
    return value.detach().to(like.dtype)


def rows(tensor: Tensor, examples: Tensor) -> Tensor:
    """Returns a row per example, or the one row that all share."""
    return tensor if tensor.shape[0] == 1 else tensor[examples]


def check_samples(n_perturb_samples: int) -> None:
    """Raises unless there is at least one perturbed sample per example."""
    if n_perturb_samples < 1:
        raise ValueError(
            f"n_perturb_samples must be at least 1, got {n_perturb_samples}. "
            "Leave it out for the default."
        )
