"""Scores: what becomes of a model's output, and whether it is what is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_iscam._utils.warn import warn_user

Score: TypeAlias = str | Callable[[Tensor], Tensor]


def _softmax(output: Tensor) -> Tensor:
    """Returns probabilities whose gradients are right close to 1 as well.

    The gradient of a probability p has the factor 1 - p, which is mostly rounding
    where p is 1 but for its last digits. The other probabilities add up to it.
    """
    found = torch.softmax(output, dim=1)
    if not found.requires_grad:
        return found
    largest = found.argmax(1, keepdim=True)
    others = found.scatter(1, largest, 0).sum(1, keepdim=True)
    return found.scatter(1, largest, 1 - others)


def _sigmoid(output: Tensor) -> Tensor:
    """Returns probabilities whose gradients are right close to 1, as `_softmax`."""
    if not output.requires_grad:
        return output.sigmoid()
    return torch.where(output > 0, 1 - (-output).sigmoid(), output.sigmoid())


_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "identity": lambda output: output,
}


def score_transform(score: Score) -> Callable[[Tensor], Tensor]:
    """Returns the function behind `score`, or raises what is wrong with it."""
    if callable(score):
        return score
    if not isinstance(score, str) or score not in _SCORES:
        known = ", ".join(f'"{name}"' for name in _SCORES)
        raise ValueError(
            f"score must be one of {known} or a callable, got {score!r}. "
            "Pass a function of the model's output for any other score."
        )
    return _SCORES[score]


MIN_SIGMOIDS = 10
"""Outputs between 0 and 1 that pass for those of a sigmoid, of four classes or more."""


MIN_ROWS = 16
"""Rows of output after which their range says something. Of 1500 random networks none
was taken for one with a sigmoid, of 75 maps of trained ones with a sigmoid 48 were."""


def ends_in_sigmoid(forward_func: Callable[..., Any]) -> bool:
    """Returns whether the last module of a model is a sigmoid."""
    modules = getattr(forward_func, "modules", None)
    last = list(modules())[-1:] if callable(modules) else []
    return any(isinstance(module, nn.Sigmoid) for module in last)


_SIGMOIDS = (
    torch.sigmoid,
    torch.sigmoid_,
    torch.special.expit,
    Tensor.sigmoid,
    Tensor.sigmoid_,
)


class LastSigmoid(TorchFunctionMode):
    """Keeps what the last sigmoid of a pass gave, in a `with` block.

    Few models have a module for it, and the values of a few outputs do not tell: those
    of a class whose logit is never negative are all above one half.
    """

    def __init__(self) -> None:
        super().__init__()
        # Itself, not its address, which other memory may have later.
        self._given: Any = None

    def __torch_function__(
        self, func: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Returns what the function does."""
        found = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS:
            self._given = found
        return found

    def gave(self, output: Tensor) -> bool:
        """Returns whether an output is that of the sigmoid, or a part of it."""
        kept, self._given = self._given, None
        if kept is not None and output.numel():
            with suppress(RuntimeError):  # inside of torch.vmap there is no storage
                address: int = kept.untyped_storage().data_ptr()
                return address == output.untyped_storage().data_ptr()
        return False


def warn_of_score(
    score: Score,
    output: Tensor,
    inputs: Sequence[Tensor],
    has_sigmoid: bool = False,
) -> bool:
    """Warns where an output says that `score` is probably not what is meant.

    Returns whether further passes may show that the outputs are those of a sigmoid.

    Args:
        score (str or Callable): The transform; a function is taken as meant.
        output (Tensor): The model's output, `(rows, ...)`.
        inputs (Sequence[Tensor]): The inputs, whose sizes tell where positions are.
        has_sigmoid (bool, optional): Whether the model ends in a sigmoid, as far as its
            modules and first pass tell. Then few values between 0 and 1 are enough.
            Default: False
    """
    if score not in ("softmax", "sigmoid"):
        return False
    values = output.detach().float()
    # A sigmoid is never 0, where a rectified output often is. Fewer values may be small
    # logits that lie between 0 and 1 by chance.
    enough = values[0].numel() > 3 and values.numel() >= MIN_SIGMOIDS
    enough |= has_sigmoid
    inside = ((values > 0) & (values <= 1)).all()
    all_inside, *shares = torch.stack([inside, *_add_up_to_one(values)]).tolist()
    if any(shares):
        warn_user(
            f"The model's outputs already are probabilities, and a further {score} "
            'flattens them. Use score="identity".'
        )
    elif all_inside and enough:
        _warn_of_sigmoids(score)
    elif score == "softmax" and not _classes_first(output.shape, inputs):
        warn_user(
            f"The softmax goes over the {output.shape[1]} entries of dimension 1 of "
            f"the model's output, which has the shape {tuple(output.shape)}. If the "
            "classes are in the last dimension, use "
            "score=lambda output: output.softmax(-1)."
        )
    else:
        return bool(all_inside)
    return False


def _warn_of_sigmoids(score: Score) -> None:
    warn_user(
        "The model's outputs all lie between 0 and 1, as those of a sigmoid do, "
        f"and a {score} flattens them. If they are probabilities, use "
        'score="identity".'
    )


class OutputRange:
    """The range of each output over all passes, which tells sigmoids by few of them.

    Logits may lie between 0 and 1 in one pass. Those of masked inputs that come close
    to both ends, one of them from below a quarter to above three quarters, and pass
    neither end, are no logits.

    Args:
        score (str or Callable): The transform; others than softmax and sigmoid are
            taken as meant.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._ends: tuple[Tensor, Tensor] | None = None
        self._rows = 0

    def note(self, output: Tensor) -> None:
        """Keeps the smallest and largest values of a pass."""
        if self._score not in ("softmax", "sigmoid"):
            return
        low, high = output.detach().aminmax(dim=0)
        if self._ends is not None:
            low = torch.minimum(low, self._ends[0])
            high = torch.maximum(high, self._ends[1])
        self._ends, self._rows = (low, high), self._rows + len(output)

    def warn(self) -> None:
        """Warns where the outputs are those of a sigmoid; this waits."""
        if self._ends is None:
            return
        low, high = self._ends
        inside = (low > 0).all() & (high <= 1).all()
        wide = (low.min() < 0.05) & (high.max() > 0.95)
        found = inside & wide & ((low < 0.25) & (high > 0.75)).any()
        # Asked of few rows too: the host waits as often for them.
        if bool(found.item()) and self._rows >= MIN_ROWS:
            _warn_of_sigmoids(self._score)


def are_probabilities(scored: Tensor, has_sigmoid: bool) -> Tensor:
    """Returns whether scores add up to 1, or are within 0 and 1 after a sigmoid."""
    if has_sigmoid:
        return ((scored >= 0) & (scored <= 1)).all()
    none = torch.zeros((), dtype=torch.bool, device=scored.device)
    return torch.stack([none, *_add_up_to_one(scored)]).any()


def _add_up_to_one(values: Tensor) -> list[Tensor]:
    """Returns whether values are shares, for each dimension that may be the classes."""
    dims = [dim for dim in {1, values.dim() - 1} if 0 < dim < values.dim()]
    sums = [values.sum(dim) for dim in dims if values.shape[dim] > 1]
    inside = (values >= 0).all()
    return [inside & ((total - 1).abs() < 1e-3).all() for total in sums]


def _classes_first(shape: torch.Size, inputs: Sequence[Tensor]) -> bool:
    """Returns whether dimension 1 of an output probably holds the classes.

    It does in `(N, classes)`, and in `(N, classes, *spatial)` of a segmentation, which
    has as many dimensions as an input. With two spatial dimensions or more it is taken
    for one unless the sizes in front of the last one have the proportions of the input
    and those behind the classes have not: `(N, H, W, classes)`. With one spatial
    dimension the last size must be that of the input, or between it and the number of
    classes: else it is `(N, steps, classes)`. An output of any other number of
    dimensions, as `(N, anchors, 4 + classes)` for images, holds steps or anchors.
    """
    if shape[2:].numel() == 1:
        return True
    for spatial in (x.shape[2:] for x in inputs if x.dim() == len(shape)):
        if len(spatial) == 1:
            right = shape[2] == spatial[0] or shape[1] <= shape[2] <= spatial[0]
        else:
            last = alike(shape[1:-1], spatial) and not alike(shape[2:], spatial)
            right = not last
        if right:
            return True
    return False


def alike(sizes: Sequence[int], others: Sequence[int]) -> bool:
    """Returns whether two shapes have the same proportions, but for rounding."""
    ratios = [n / m for n, m in zip(sizes, others, strict=True)]
    return max(ratios) < 1.2 * min(ratios)


def channels_last(shape: Sequence[int], inputs: Sequence[Tensor]) -> bool:
    """Returns whether maps fit an input with their channels last, and not as they are.

    A single spatial axis has no proportions.
    """
    spatial = [x.shape[2:] for x in inputs if x.dim() == len(shape) > 3]
    as_they_are = any(alike(shape[2:], size) for size in spatial)
    return not as_they_are and any(alike(shape[1:-1], size) for size in spatial)
