"""What sets a class apart from those that the model takes it for most easily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.validation import as_count, as_number
from captum_iscam.targets.model_score import ModelScore
from captum_iscam.targets.vectors import as_rows


def contrast(
    model: Callable[..., Any],
    reference: int | Sequence[int] | Tensor | None = None,
    strength: float = 1.0,
) -> ModelScore:
    r"""Returns logits of which those of similar classes are subtracted (Finer-CAM).

    .. math::
        s_c = f_c(x) - \gamma \, \frac{1}{|R|} \sum_{d \in R} f_d(x),
        \qquad c \notin R

    A map of `s_c` shows what tells class `c` from the classes `R`, where a map of the
    logit also shows what they share. The score is explained by any method, with
    `target=c` and, for score methods and RISE, `score="identity"`.

    This is the comparison of Z. Zhang, J. Gu, A. Chowdhury, Z. Mai, D. Carlyn,
    T. Berger-Wolf, Y. Su, W.-L. Chao, "Finer-CAM: Spotting the Difference Reveals Finer
    Details for Visual Explanation", CVPR 2025, https://arxiv.org/abs/2501.11309, with
    `strength` for its `gamma` and the plain mean over several references. The authors'
    code, and that of grad-cam, weigh the references by their softmax probabilities,
    anew for each input. With one reference both are the same.

    The references are fixed before the first pass, so each masked input is compared
    with the same classes. :func:`similar_classes` finds them.

    Args:
        model (Callable): A model with logits `(N, classes)`, of two classes or more.
        reference (int, Sequence[int] or Tensor, optional): `R`, the indices of the
            classes to compare with, the same for all examples. None expects them in
            every call behind the inputs, as `additional_forward_args`: an integer
            tensor `(N, k)` with k classes for each example, or `(N, classes, k)` with k
            classes for each target of each example, which :func:`similar_classes`
            makes. Default: None
        strength (float, optional): `gamma`, at least 0: 0 gives the logits themselves,
            1 their difference. Default: 1.0, as in the authors' code

    Returns:
        *ModelScore*, with scores `(N, classes)` in the units of the logits. A class
        that is among its own references is compared with the others of them; if there
        are no others, its score is NaN.

    Raises:
        TypeError: If the references are no integers.
        ValueError: If there are no references or `strength` is negative; when called,
            if the model has no such class or the references have another shape.

    Examples::

        >>> import torch
        >>> model = torch.nn.Linear(3, 4).eval()
        >>> inputs = torch.rand(5, 3)
        >>> contrast(model, [1, 2])(inputs).shape
        torch.Size([5, 4])
        >>> references = similar_classes(model(inputs), 2)
        >>> contrast(model)(inputs, references).shape
        torch.Size([5, 4])
    """
    value = as_number(strength)
    if value is None or not (isfinite(value) and value >= 0):
        raise ValueError(
            f"strength must be a finite number of at least 0, got {strength!r}. Take "
            "1.0 for the difference of the logits."
        )
    fixed = None if reference is None else _fixed(reference)
    return ModelScore(
        model, _Contrast(fixed, value), _without_last if fixed is None else None
    )


def similar_classes(logits: Tensor, count: int = 3) -> Tensor:
    r"""Returns the classes whose logits are nearest to that of each class.

    .. math::
        R_c = \operatorname{arg\,min}_{d \neq c} |f_d(x) - f_c(x)|

    This is the choice of Finer-CAM's code, for every possible target `c` at once. Pass
    the result to the score that :func:`contrast` makes, as `additional_forward_args`.

    Args:
        logits (Tensor): Outputs of the model for the inputs to be explained,
            `(N, classes)`.
        count (int, optional): `k`, the number of classes to compare with, at least 1.
            Default: 3

    Returns:
        *Tensor* of integers `(N, classes, k)`, nearest first; of classes at the same
        distance those that are next to it when all are sorted by logit and index.

    Raises:
        TypeError: If the logits are no tensor.
        ValueError: If the logits have another shape or are not finite, or the model has
            too few classes.

    Examples::

        >>> similar_classes(torch.tensor([[5.0, 4.0, 1.0, 0.5]]), 1)[0].T
        tensor([[1, 0, 3, 2]])
    """
    rows = as_rows(logits.detach() if isinstance(logits, Tensor) else logits)
    count = as_count("count", count, "It counts the classes to compare with.")
    if rows.dim() != 2 or rows.shape[1] <= count:
        raise ValueError(
            f"logits must have more than {count} classes, (N, classes), got the shape "
            f"{tuple(rows.shape)}. Pass the model's output, or a smaller count."
        )
    if not bool(rows.isfinite().all().item()):
        raise ValueError(
            "logits must be finite, got NaN or infinity. Check the model and its "
            "inputs."
        )
    # The nearest ones are next to a class in the order of the logits, so no table of
    # classes by classes is made.
    values, order = rows.sort(dim=1, stable=True)
    near = torch.arange(1, count + 1, device=rows.device)
    steps = torch.stack([-near, near], 1).flatten()
    last = rows.shape[1] - 1
    places = torch.arange(last + 1, device=rows.device).unsqueeze(1) + steps
    inside = places.clamp(0, last)
    distance = (values[:, inside] - values.unsqueeze(2)).abs()
    distance = distance.where(places == inside, torch.inf)
    chosen = distance.sort(dim=2, stable=True).indices[..., :count]
    classes = order[:, inside].gather(2, chosen)
    return torch.empty_like(classes).scatter(
        1, order.unsqueeze(2).expand_as(classes), classes
    )


@dataclass(eq=False)
class _Contrast:
    """Reads the scores from the logits; no closure, so that it can be pickled."""

    reference: Tensor | None
    strength: float
    seen: bool = False

    def __call__(self, output: Any, *args: Any) -> Tensor:
        rows = as_rows(output)
        if rows.dim() != 2 or rows.shape[1] < 2:
            raise ValueError(
                "model must return logits (N, classes) of two classes or more, got the "
                f"shape {tuple(rows.shape)}. Pick them with a function."
            )
        table = self._table(args, rows)
        if not self.seen:
            _check_range(table, rows.shape[1])
            self.seen = True
        classes = torch.arange(rows.shape[1], device=rows.device).view(1, -1, 1)
        others = table != classes
        logits = rows.unsqueeze(1).expand(-1, rows.shape[1], -1)
        known = logits.gather(2, table.expand(len(rows), rows.shape[1], -1))
        counts = others.sum(2)
        mean = (known * others).sum(2) / counts.clamp(min=1)
        # Chosen at the end: a division by zero would spoil the gradients of the others.
        return torch.where(counts > 0, rows - self.strength * mean, torch.nan)

    def _table(self, args: tuple[Any, ...], rows: Tensor) -> Tensor:
        """Returns the references as `(1 or N, 1 or classes, k)`."""
        if self.reference is not None:
            # Brought there once: a copy in every pass would wait for the device.
            self.reference = self.reference.to(rows.device)
            return self.reference.view(1, 1, -1)
        given: Tensor = args[-1]
        table = given.unsqueeze(1) if given.dim() == 2 else given
        each = table.dim() == 3 and table.shape[1] in (1, rows.shape[1])
        if not each or len(table) != len(rows) or not table.shape[2]:
            raise ValueError(
                f"reference must have the shape ({len(rows)}, k) or "
                f"({len(rows)}, {rows.shape[1]}, k), a row per example, got "
                f"{tuple(given.shape)}. "
                "Make it with similar_classes(model(inputs))."
            )
        return table.to(rows.device).long()


def _fixed(reference: Any) -> Tensor:
    """Returns the references of all examples and targets, `(k,)`."""
    try:
        table = torch.as_tensor(reference, device="cpu").detach().reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise _no_integers(reference) from None
    if not table.numel():
        raise ValueError(
            "reference must name at least one class, got none. Take "
            "similar_classes(model(inputs)), or omit it here to pass it per example."
        )
    if isinstance(reference, Tensor) and reference.dim() > 1:
        raise ValueError(
            "reference must be classes (k,) for all examples, got the shape "
            f"{tuple(reference.shape)}. Omit it here to pass it per example as "
            "additional_forward_args."
        )
    return _in_integers(table, reference)


def _without_last(*args: Any) -> tuple[Any, ...]:
    """Returns the model's arguments, in front of the references."""
    if not isinstance(args[-1], Tensor):
        raise _no_integers(args[-1])
    _in_integers(args[-1], args[-1])
    return args[:-1]


def _in_integers(table: Tensor, given: object) -> Tensor:
    kind = table.dtype
    if kind.is_floating_point or kind.is_complex or kind == torch.bool:
        raise _no_integers(given)
    return table.long()


def _no_integers(given: object) -> TypeError:
    got = given.dtype if isinstance(given, Tensor) else repr(given)
    return TypeError(
        f"reference must hold indices of classes, got {got}. Make it with "
        "similar_classes(model(inputs)); without a reference here, pass it as "
        "additional_forward_args."
    )


def _check_range(table: Tensor, classes: int) -> None:
    low, high = torch.stack(torch.aminmax(table)).tolist()
    if low < 0 or high >= classes:
        raise ValueError(
            f"reference must hold indices from 0 to {classes - 1}, got "
            f"{low if low < 0 else high}. Count from 0."
        )
