"""Scores of models that answer with a vector: labels, numbers, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.scores import score_transform, warn_of_score
from captum_iscam._utils.validation import as_integer, as_number
from captum_iscam._utils.warn import warn_user
from captum_iscam.targets.model_score import ModelScore

_SIGMOID = score_transform("sigmoid")  # with gradients that are right close to 1


def multi_label(model: Callable[..., Any], labels: int | Sequence[int]) -> ModelScore:
    r"""Returns the mean probability of some labels, each with a sigmoid of its own.

    .. math::
        s = \frac{1}{|L|} \sum_{l \in L} \sigma(f_l(x))

    For a single label `score="sigmoid"` with `target=label` gives the same.

    Args:
        model (Callable): A model with logits `(N, labels)`.
        labels (int or Sequence[int]): `L`, the indices of the labels, from 0.

    Returns:
        *ModelScore*, with scores `(N,)` from 0 to 1.

    Raises:
        ValueError: If there are no labels; when called, if the model has no such label.

    Examples::

        >>> import torch
        >>> model = torch.nn.Linear(3, 4).eval()
        >>> multi_label(model, [0, 2])(torch.rand(5, 3)).shape
        torch.Size([5])
    """
    given = labels.tolist() if isinstance(labels, Tensor) else labels
    entries = list(given) if isinstance(given, Iterable) else [given]
    wanted = [label for label in map(as_integer, entries) if label is not None]
    if not wanted or len(wanted) != len(entries) or len({*wanted}) != len(wanted):
        raise ValueError(
            f"labels must be indices of labels, each once, got {labels!r}. For a row "
            "of 0 and 1 pass labels.nonzero().flatten()."
        )

    return ModelScore(model, _LabelScore(wanted))


def regression(
    model: Callable[..., Any], index: int = 0, toward: float | None = None
) -> ModelScore:
    r"""Returns a number that the model predicts, or how near it is to another.

    .. math::
        s = f_i(x) \quad\text{or}\quad s = -|f_i(x) - v|

    Without `toward` a map shows what raises the prediction. With it, it shows what
    brings the prediction to the value `v`: pass the prediction for the input itself to
    see what it rests on, whether that raises or lowers it. Do so with score methods and
    RISE alone: a gradient has no sign where the prediction is `v`, and a warning says
    so where they differ by less than 1 % of `v`.

    Args:
        model (Callable): A model with outputs `(N,)` or `(N, numbers)`.
        index (int, optional): `i`, the index of the number in the output. Default: 0
        toward (float, optional): `v`, in the units of the prediction. Default: None,
            that is the prediction itself as the score

    Returns:
        *ModelScore*, with scores `(N,)` in the units of the prediction.

    Raises:
        ValueError: If `index` is no integer or `toward` no finite number; when called,
            if the model has no such number.

    Examples::

        >>> import torch
        >>> model = torch.nn.Linear(3, 1).eval()
        >>> regression(model)(torch.rand(5, 3)).shape
        torch.Size([5])
    """
    place = as_integer(index)
    if place is None:
        raise ValueError(
            f"index must be an integer, got {index!r}. Pass the index of a number in "
            "the output, from 0."
        )
    value = None if toward is None else as_number(toward)
    if toward is not None and (value is None or not isfinite(value)):
        raise ValueError(
            f"toward must be a finite number or None, got {toward!r}. Pass a value in "
            "the units of the prediction, such as prediction.item()."
        )
    return ModelScore(model, _NumberScore(place, value))


def similarity(model: Callable[..., Any], reference: Tensor) -> ModelScore:
    r"""Returns the cosine similarity between the model's embedding and a reference.

    .. math::
        s = \frac{\langle f(x), r \rangle}{\|f(x)\| \, \|r\|}

    An embedding of length zero has the similarity 0. Where an input has the reference
    as its embedding, no gradient is left but rounding, which a warning says.

    Args:
        model (Callable): A model with embeddings `(N, D)`; further dimensions are
            flattened.
        reference (Tensor): `r`, `(D,)` or `(1, D)`: the embedding of another image, or
            of a text.

    Returns:
        *ModelScore*, with scores `(N,)` from -1 to 1.

    Raises:
        TypeError: If the reference is no tensor.
        ValueError: If the reference is zero; when called, if its length is not that of
            the embeddings.

    Examples::

        >>> import torch
        >>> model = torch.nn.Linear(3, 4).eval()
        >>> similarity(model, torch.ones(4))(torch.rand(5, 3)).shape
        torch.Size([5])
    """
    if not isinstance(reference, Tensor):
        raise TypeError(
            f"reference must be a tensor, got {type(reference).__name__}. Pass the "
            "embedding of one example."
        )
    row = at_least_single(reference.detach()).reshape(-1)
    if not bool((row.isfinite().all() & (row != 0).any()).item()):
        raise ValueError(
            "reference must be finite and not zero, got an embedding without a "
            "direction. Pass the embedding of another input."
        )

    return ModelScore(model, _SimilarityScore(row, tuple(reference.shape)))


# What reads the scores is no closure, so that it can be pickled.


@dataclass(eq=False)
class _LabelScore:
    labels: list[int]
    seen: bool = False

    def __call__(self, output: Any, *_: Any) -> Tensor:
        rows = as_rows(output)
        for label in self.labels:
            _check_index("labels", label, rows)
        if not self.seen:
            warn_of_score("sigmoid", rows, [])
            self.seen = True
        # Column by column: a list of them would be copied to the device in each pass.
        columns = [rows[:, label] for label in self.labels]
        return _SIGMOID(torch.stack(columns, 1)).mean(1)


@dataclass(eq=False)
class _NumberScore:
    index: int
    toward: float | None

    def __call__(self, output: Any, *_: Any) -> Tensor:
        rows = as_rows(output)
        _check_index("index", self.index, rows)
        value = rows[:, self.index]
        if self.toward is None:
            return value
        distance = (value - self.toward).abs()
        _warn_in_backward(
            distance,
            distance <= 0.01 * abs(self.toward),
            "The score of regression has its peak where the prediction is toward, and "
            "there the sign of its gradient, and of the map, may be that of rounding: "
            "the prediction is within 1 % of toward. Omit toward for methods with "
            "gradients, or take a score method such as LayerScoreCAM.",
        )
        return -distance


@dataclass(eq=False)
class _SimilarityScore:
    reference: Tensor
    shape: tuple[int, ...]

    def __call__(self, output: Any, *_: Any) -> Tensor:
        rows = as_rows(output).flatten(1)
        if rows.shape[1] != len(self.reference):
            raise ValueError(
                f"reference must have {rows.shape[1]} numbers like the model's "
                f"embeddings, got {self.shape}. Pass that of one example."
            )
        reference = self.reference.to(rows).unsqueeze(0)
        # Of unit size, since squares of very small or large numbers leave the range.
        found = F.cosine_similarity(_scaled(rows), _scaled(reference), dim=1)
        _warn_in_backward(
            found,
            found > 1 - 100 * torch.finfo(found.dtype).eps,
            "The gradient of the similarity is zero but for rounding where an input "
            "has the reference as its embedding, and so is the map. Pass the embedding "
            "of another input, or take a score method such as LayerScoreCAM.",
        )
        return found


def _warn_in_backward(scores: Tensor, which: Tensor, text: str) -> None:
    """Warns, once a gradient is taken, where those of some rows are rounding.

    Score methods take none, and compare scores far from the peak with it. The rows have
    no names, since a method may show each example several times.
    """
    if scores.requires_grad:
        # Asked there, as no pass waits for the device.
        scores.register_hook(lambda _: warn_user(text) if which.any() else None)


def _scaled(rows: Tensor) -> Tensor:
    """Returns rows whose largest number is 1, and rows of zeros as they are."""
    size = rows.detach().abs().amax(1, keepdim=True)
    return rows / torch.where(size > 0, size, 1)


def as_rows(output: Any) -> Tensor:
    """Returns a model's output as `(N, numbers, ...)`, in at least float32."""
    if not isinstance(output, Tensor) or output.dim() == 0:
        raise TypeError(
            "model must return a tensor with a row per example, got "
            f"{type(output).__name__}. Wrap it in a function that picks the tensor."
        )
    rows = at_least_single(output)
    return rows.unsqueeze(1) if rows.dim() == 1 else rows


def _check_index(name: str, index: int, rows: Tensor) -> None:
    if rows.dim() != 2 or not 0 <= index < rows.shape[1]:
        raise ValueError(
            f"{name} must be from 0 to {rows.shape[1] - 1} for outputs (N, numbers), "
            f"got {index} for the shape {tuple(rows.shape)}. Count from 0."
        )
