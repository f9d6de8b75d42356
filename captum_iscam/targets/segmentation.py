"""The score of a class over a region of a segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single, check_classes
from captum_iscam._utils.scores import Score, score_transform, warn_of_score
from captum_iscam._utils.validation import as_integer
from captum_iscam.targets.model_score import ModelScore


def segmentation(
    model: Callable[..., Any],
    category: int,
    region: Tensor | None = None,
    *,
    score: Score = "softmax",
    key: str = "out",
) -> ModelScore:
    r"""Returns the score of a class, summed over a region of the output.

    .. math::
        s = \sum_{p \in R} \mathrm{score}(f(x))_{c, p}

    Args:
        model (Callable): A model with outputs `(N, classes, *spatial)`, or a mapping
            that holds them, such as torchvision's FCN and DeepLab.
        category (int): `c`, the index of the class.
        region (Tensor, optional): `R`, boolean, of the output's spatial size: for
            example where the model predicts the class,
            `model(x)["out"][0].argmax(0) == category`. None expects it in every call, a
            row per example and behind the inputs, as `additional_forward_args`: then
            each example of a batch has a region of its own. Default: None
        score (str or Callable, optional): What is summed: "softmax" over the classes (a
            probability), "sigmoid", "identity" (the output as it is), or a function of
            the output. Default: "softmax"
        key (str, optional): Key of the output in a mapping. Default: "out"

    Returns:
        *ModelScore*, with scores `(N,)`: with "softmax" from 0 to the region's size.

    Raises:
        TypeError: If the region is not boolean.
        ValueError: If the category is no integer or the region is empty; when called,
            if the region does not have the size of the output, the class is not there,
            or "softmax" is of one class alone.

    Examples::

        >>> model = torch.nn.Conv2d(3, 5, 1).eval()
        >>> region = torch.zeros(8, 8, dtype=torch.bool)
        >>> region[2:5, 3:6] = True
        >>> segmentation(model, 4, region)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2])
    """
    index = as_integer(category)
    if index is None or index < 0:
        raise ValueError(
            f"category must be an integer of at least 0, got {category!r}. It is the "
            "index of the class."
        )
    score_transform(score)
    if region is not None:
        _check_region(region)

    read = _RegionScore(index, region, score, key)
    return ModelScore(model, read, _without_last if region is None else None)


@dataclass(eq=False)
class _RegionScore:
    """Reads the score of the region; no closure, so that it can be pickled."""

    category: int
    region: Tensor | None
    score: Score
    key: str
    seen: bool = False

    def __call__(self, output: Any, *args: Any) -> Tensor:
        maps = at_least_single(_output(output, self.key))
        if maps.dim() < 3 or not 0 <= self.category < maps.shape[1]:
            raise ValueError(
                "category must be a class of an output (N, classes, *spatial), got "
                f"{self.category} for the shape {tuple(maps.shape)}. Count from 0."
            )
        region = self.region
        where = _rows_of(args[-1], maps) if region is None else _shared(region, maps)
        if not self.seen:
            if self.score == "softmax":
                check_classes(maps)
            # The maps have the sizes of a segmentation, whatever the input's.
            warn_of_score(self.score, maps, [maps])
            self.seen = True
        inside = where.to(maps.device).expand(len(maps), *maps.shape[2:])
        chosen = score_transform(self.score)(maps)[:, self.category]
        return torch.where(inside, chosen, 0).flatten(1).sum(1)


def _without_last(*args: Any) -> tuple[Any, ...]:
    """Returns the model's arguments, in front of the region."""
    _check_region(args[-1])
    return args[:-1]


def _output(output: Any, key: str) -> Tensor:
    if isinstance(output, Mapping) and key in output:
        output = output[key]
    if not isinstance(output, Tensor):
        raise TypeError(
            f'model must return a tensor, or a mapping that holds one as "{key}", got '
            f"{type(output).__name__}. Pass key, or wrap the model."
        )
    return output


def _shared(region: Tensor, maps: Tensor) -> Tensor:
    """Returns the one region of all examples."""
    where = region[0] if region.dim() == maps.dim() - 1 and len(region) == 1 else region
    if where.shape != maps.shape[2:]:
        raise ValueError(
            f"region must have the size {tuple(maps.shape[2:])} of the output, got "
            f"{tuple(region.shape)}. Take it from the model's own prediction; omit it "
            "here to pass one per example as additional_forward_args."
        )
    return where


def _rows_of(regions: Tensor, maps: Tensor) -> Tensor:
    """Returns the region of each example, none of them empty."""
    shape = (len(maps), *maps.shape[2:])
    if tuple(regions.shape) != shape:
        raise ValueError(
            f"region must have the size {shape} of the output, a row per example, got "
            f"{tuple(regions.shape)}. Take it from the model's own prediction."
        )
    empty = (~regions.flatten(1).any(1)).nonzero().reshape(-1).tolist()
    if empty:
        raise ValueError(
            "region must hold at least one pixel for every example, got none for "
            f"example {empty[0]}. Exclude such examples."
        )
    return regions


def _check_region(region: Any) -> None:
    if not isinstance(region, Tensor) or region.dtype != torch.bool:
        kind = region.dtype if isinstance(region, Tensor) else type(region).__name__
        raise TypeError(
            f"region must be a boolean tensor, got {kind}. Compare to get one, as in "
            "output.argmax(1) == category; without a region here, pass one per example "
            "as additional_forward_args."
        )
    if not bool(region.any().item()):
        raise ValueError(
            "region must hold at least one pixel, got none of "
            f"{tuple(region.shape)}. Choose a class the model finds, or another region."
        )
