"""The score of one box of a detector, found again by overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.validation import as_number
from captum_iscam.targets.model_score import ModelScore


def detection(
    model: Callable[..., Any],
    inputs: Tensor,
    box: Tensor | tuple[float, ...],
    label: int | None = None,
    *,
    min_overlap: float = 0.5,
) -> ModelScore:
    r"""Returns the score of one detected box, found again in each output by overlap.

    .. math::
        s = \mathrm{score}(d^*), \qquad
        d^* = \arg\max_{d:\, \mathrm{label}(d) = c} \mathrm{IoU}(d, r)

    `r` is the box that the model finds for the input, of those of its class the one
    that overlaps `box` most. An output without a box of the class that overlaps `r` by
    `min_overlap` has the score 0, since the object is not found there. Detectors
    themselves drop boxes of low scores: lower the model's own threshold
    (`box_score_thresh` of torchvision's Faster R-CNN, `score_thresh` of RetinaNet) for
    scores that fade instead of vanishing.

    Args:
        model (Callable): A detector as those of torchvision: called with a list of
            images `(C, H, W)`, it gives a list of dictionaries with "boxes" `(D, 4)` as
            corners `x0, y0, x1, y1`, "labels" and "scores" `(D,)`.
        inputs (Tensor): The image to explain, `(1, C, H, W)`; the model runs on it
            once, here.
        box (Tensor or tuple[float, ...]): The object's corners `x0, y0, x1, y1` in
            pixels, by hand or from the model's own output.
        label (int, optional): `c`, the class of the box. Default: None, that is the
            class of the box that overlaps most
        min_overlap (float, optional): Smallest intersection over union that counts,
            above 0 and at most 1. Default: 0.5

    Returns:
        *ModelScore*, with scores `(N,)` for inputs `(N, C, H, W)`.

    Raises:
        TypeError: If the model gives no boxes in that form.
        ValueError: If no box that the model finds matches; the message lists the ones
            that come nearest.

    Examples::

        >>> def model(images):
        ...     boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
        ...     score = torch.stack([images[0].mean()])
        ...     return [{"boxes": boxes, "labels": torch.tensor([3]), "scores": score}]
        >>> images = torch.full((1, 3, 8, 8), 0.5)
        >>> detection(model, images, (1, 1, 5, 6))(images)
        tensor([0.5000])
    """
    wanted = _check_box(box)
    overlap = as_number(min_overlap)
    if overlap is None or not 0 < overlap <= 1:
        raise ValueError(
            f"min_overlap must be above 0 and at most 1, got {min_overlap!r}. "
            "It is an intersection over union."
        )
    if not isinstance(inputs, Tensor) or inputs.dim() < 2 or len(inputs) != 1:
        got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs)
        raise ValueError(
            f"inputs must be one image (1, C, H, W), got {got}. Boxes belong to an "
            "image, so make one target per image."
        )
    with torch.no_grad():
        found = _outputs(model([x.clone() for x in inputs]), 1)[0]
    reference, kind = _match(found, wanted, label, min_overlap)

    return ModelScore(model, _BoxScore(reference, kind, min_overlap), _in_a_list)


@dataclass(eq=False)
class _BoxScore:
    """Reads the score of the reference box; no closure, so that it can be pickled."""

    reference: Tensor
    label: int
    min_overlap: float

    def __call__(self, outputs: Any, images: Tensor, *_: Any) -> Tensor:
        rows = _outputs(outputs, len(images))
        return torch.stack(
            [_score(row, self.reference, self.label, self.min_overlap) for row in rows]
        )


def _in_a_list(images: Tensor, *more: Any) -> tuple[Any, ...]:
    """Returns the arguments of a detector."""
    return (list(images), *more)


def _match(
    found: dict[str, Tensor], box: Tensor, label: int | None, min_overlap: float
) -> tuple[Tensor, int]:
    """Returns the box found nearest to the one wanted, and its label."""
    overlaps = overlap(found["boxes"], box)
    if label is not None:
        overlaps = torch.where(found["labels"] == label, overlaps, -1)
    order = overlaps.argsort(descending=True)
    if len(order) and bool((overlaps[order[0]] >= min_overlap).item()):
        best = int(order[0])
        return found["boxes"][best].detach(), int(found["labels"][best])
    of_label = "" if label is None else f" of the label {label}"
    near = [
        f"{[round(v, 1) for v in found['boxes'][i].tolist()]} of the label "
        f"{int(found['labels'][i])}"
        for i in overlap(found["boxes"], box).argsort(descending=True)[:3].tolist()
    ]
    raise ValueError(
        f"box must overlap a box{of_label} that the model finds by at least "
        f"{min_overlap:g}, got {[round(v, 1) for v in box.tolist()]}. Nearest are: "
        f"{', '.join(near) or 'none, the model finds nothing'}."
    )


def _score(
    found: dict[str, Tensor], reference: Tensor, label: int, min_overlap: float
) -> Tensor:
    scores = at_least_single(found["scores"])
    overlaps = overlap(found["boxes"].detach(), reference)
    overlaps = torch.where(found["labels"] == label, overlaps, -1)
    if len(overlaps) and bool((overlaps.max() >= min_overlap).item()):
        return scores[overlaps.argmax()]
    # Zero, but still a part of the graph that gradients are asked of.
    return scores.sum() * 0


def overlap(boxes: Tensor, box: Tensor) -> Tensor:
    """Returns the intersection over union of boxes `(D, 4)` with one box `(4,)`."""
    box = box.to(boxes)
    low, high = (
        torch.maximum(boxes[:, :2], box[:2]),
        torch.minimum(boxes[:, 2:], box[2:]),
    )
    shared = (high - low).clamp(min=0).prod(1)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    return shared / torch.where(whole > 0, whole, 1)


def _outputs(outputs: Any, count: int) -> list[dict[str, Tensor]]:
    names = {"boxes", "labels", "scores"}
    if (
        not isinstance(outputs, (list, tuple))
        or len(outputs) != count
        or not all(isinstance(row, dict) and names <= row.keys() for row in outputs)
    ):
        raise TypeError(
            "model must return a dictionary with boxes, labels and scores per image, "
            f"got {type(outputs).__name__}. Call model.eval(), or wrap it in a "
            "function that takes a list of images and returns a list of these."
        )
    return list(outputs)


def _check_box(box: Tensor | tuple[float, ...]) -> Tensor:
    corners = torch.as_tensor(box, dtype=torch.float32).detach().reshape(-1)
    values = corners.tolist()
    if (
        len(values) != 4
        or not all(isfinite(value) for value in values)
        or not (values[0] < values[2] and values[1] < values[3])
    ):
        raise ValueError(
            f"box must be corners x0 < x1, y0 < y1 as (x0, y0, x1, y1), got {values}. "
            "Convert from centre and size."
        )
    return corners
