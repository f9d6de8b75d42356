"""What the model says of an input: `s(z)`, one number per example.

Attribution methods and metrics ask the model the same question in the same way: run
`forward_func` on inputs derived from some of the caller's examples, turn the output
into a score, and pick each example's target from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from captum_iscam._utils.captum_compat import (
    format_additional_forward_args,
    run_forward,
    select_targets,
)
from captum_iscam._utils.validation import (
    as_integer,
    require_finite,
    require_floating,
)
from captum_iscam._utils.warn import warn_user

Target: TypeAlias = (
    int
    | tuple[int, ...]
    | Tensor
    | list[int]
    | list[tuple[int, ...]]
    | list[list[int]]
    | None
)


_AS_BASELINES = "If it is a baseline, pass it by name, baselines=..."


def in_integers(target: Target) -> Target:
    """Returns the target in Python's integers or in long ones, or raises.

    A nested list becomes a tensor `(N, T)`.
    """
    if isinstance(target, list) and any(isinstance(row, list) for row in target):
        target = _nested(target)
    if isinstance(target, Tensor):
        kind = target.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            raise TypeError(
                f"target must hold integers, got {kind}. Convert it with "
                f"target.long(). {_AS_BASELINES}"
            )
        return target.long()
    found = [tuple(map(as_integer, index)) for index in _indices(target)]
    entries = target if isinstance(target, list) else [target]
    mixed = len({isinstance(entry, tuple) for entry in entries}) > 1
    if mixed or any(position is None for index in found for position in index):
        raise TypeError(
            f"target must hold integers, got {_short(target)}. Pass an integer, a "
            "tuple of them, or a list or tensor with an entry per example. "
            f"{_AS_BASELINES}"
        )
    plain = [
        index if isinstance(entry, tuple) else index[0]
        for index, entry in zip(found, entries, strict=False)
    ]
    return cast(Target, plain if isinstance(target, list) else (plain or [None])[0])


def _short(target: object) -> str:
    text = repr(target)
    return text if len(text) < 200 else f"a {type(target).__name__} of other values"


def several_targets(target: Target, num_examples: int) -> Tensor | None:
    """Returns targets `(N, T)` where several are asked for, else None.

    One row stands for all examples.
    """
    if not isinstance(target, Tensor) or target.dim() != 2:
        return None
    rows, count = target.shape
    if rows not in (1, num_examples) or not count:
        raise ValueError(
            "target must have one row per example and at least one column, got the "
            f"shape {tuple(target.shape)} for {num_examples} examples. Give each "
            "example a row of as many classes, or pass one row for all."
        )
    ones, zeros = target == 1, target == 0
    if count > 2 and bool(((ones | zeros).all() & (ones.sum(1) == 1).all()).item()):
        raise ValueError(
            f"target must hold class indices, got one-hot rows of {count}. Pass "
            "target.argmax(1)."
        )
    return target.expand(num_examples, -1)


def _nested(target: Sequence[object]) -> Tensor:
    """Returns a nested list as a tensor `(N, T)`."""
    rows = [row if isinstance(row, list) else [] for row in target]
    found = [[as_integer(index) for index in row] for row in rows]
    if any(index is None for row in found for index in row):
        raise TypeError(
            f"target must hold integers, got {target!r}. Pass a list of class indices "
            "for each example."
        )
    if len({len(row) for row in found}) > 1 or not found[0]:
        raise ValueError(
            "target must have as many classes for each example, at least one, got "
            f"{target!r}. Pass one list of the same length per example."
        )
    return torch.tensor(found, dtype=torch.long, device="cpu")


def check_range(target: Target, scored: Tensor) -> None:
    """Raises for an index that is not in the output; Captum checks the form."""
    # A tensor or list of integers is gathered, which knows no negative index.
    gathered = isinstance(target, (Tensor, list))
    dims = scored.dim() - 1
    for index in _indices(target):
        # Captum refuses a tuple that is too long, but not one in a list.
        if isinstance(target, list) and len(index) > dims:
            raise ValueError(
                f"target must have one index per dimension after the first, {dims}, "
                f"got {index}. The model's output has the shape {tuple(scored.shape)}."
            )
        for position, size in zip(index, scored.shape[1:], strict=False):
            low = 0 if gathered else -size
            if isinstance(position, int) and not low <= position < size:
                raise ValueError(
                    f"target must be an index from 0 to {size - 1}, got {position}. "
                    f"The model's output has the shape {tuple(scored.shape)}."
                )


def _indices(target: Target) -> Sequence[tuple[int, ...]]:
    if target is None:
        return []
    if isinstance(target, Tensor):
        return [(int(value),) for value in target.reshape(-1).tolist()]
    values = cast(
        Sequence[int | tuple[int, ...]],
        target if isinstance(target, list) else [target],
    )
    return [value if isinstance(value, tuple) else (value,) for value in values]


Score: TypeAlias = str | Callable[[Tensor], Tensor]
Baselines: TypeAlias = Tensor | int | float | tuple[Tensor | int | float, ...] | None

_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda output: torch.softmax(output, dim=1),
    "sigmoid": torch.sigmoid,
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


def at_least_single(tensor: Tensor) -> Tensor:
    """Returns half precision as float32, anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


class TargetScore:
    """The score of the target, for inputs made from chosen examples of a batch.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        score (str or Callable): The transform between output and target.
        target (int, tuple, Tensor or list, optional): Captum's target forms.
        additional_forward_args (Any, optional): Captum's; a tensor whose first
            dimension is `N` follows its example, everything else is passed as it is.
        num_examples (int): `N`.
        device (torch.device, optional): Where the outputs will probably be. The target
            goes there at once: later it would wait for the passes before it.

    Attributes:
        num_targets (int or None): `T` where the target is `(N, T)`, else None.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        score: Score,
        target: Target,
        additional_forward_args: object,
        num_examples: int,
        device: torch.device | None = None,
    ) -> None:
        self.forward_func = forward_func
        self.score = score
        self._transform = score_transform(score)
        target = in_integers(target)
        # One index for all needs no look-up in the loop, and no wait for the device.
        if isinstance(target, list) and len(target) == num_examples == 1:
            target = target[0]
        several = several_targets(target, num_examples)
        if several is None and isinstance(target, Tensor) and target.numel() == 1:
            target = cast(Target, target.item())
        self.target = target
        self.num_targets = None if several is None else several.shape[1]
        # Rows of targets, or of an index per dimension of the output.
        table = _as_table(target, num_examples) if several is None else several
        self._table = None if table is None else table.to(device or table.device)
        self.additional = format_additional_forward_args(additional_forward_args)
        self.num_examples = num_examples
        self._shape: torch.Size | None = None

    def __call__(self, inputs: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """Returns the scores of `inputs`, row i made from example `examples[i]`.

        They are `(rows,)`, or `(rows, T)` where each example has `T` targets.
        """
        additional = self.additional and tuple(
            self._of_examples(value, examples) for value in self.additional
        )
        output = run_forward(
            self.forward_func, inputs, additional_forward_args=additional
        )
        return self.of_output(output, examples)

    def of_output(self, output: Any, examples: Tensor) -> Tensor:
        """Returns the score of each row of a model's output, as `__call__` does."""
        self._check_output(output, len(examples))
        scored = self._scored(output, len(examples))
        if self.num_targets is not None:
            return self._selected_several(scored, examples)
        selected = self._selected(scored, examples)
        if selected.numel() != len(examples):
            raise ValueError(
                "target must pick one number per example from an output of shape "
                f"{tuple(scored.shape)}, got {self.target!r}. "
                "Name a class, or one index per dimension after the first."
            )
        return selected.reshape(-1)

    def check_form(self) -> None:
        """Raises unless a list or tensor has an entry, or a row, per example.

        Captum compares with the rows of an output, in which not every example need
        have one.
        """
        target, count = self.target, self.num_examples
        if isinstance(target, Tensor) and target.numel() > 1:
            shape, found = tuple(target.shape), target.tolist()
        elif isinstance(target, list):
            shape, found = (len(target),), target
        else:
            return
        if shape != (count,) and self.num_targets is None:
            several = f"[{found}]" if len(shape) == 1 and len(found) < 9 else "(N, T)"
            raise AssertionError(
                f"target must have one entry per example, {count}, got the shape "
                f"{shape}. Pass an integer for one class in all examples, or "
                f"{several} for several of each."
            )

    def of_inputs(self, output: Any) -> Tensor:
        """Returns `s(x)`, `(N, T)`, from the output for the inputs themselves.

        A copy, since a model may write every output to the same memory.
        """
        examples = torch.arange(self.num_examples, device=output.device)
        scores = self.of_output(output, examples).clone().view(self.num_examples, -1)
        require_finite(scores, "the pass of the unmasked input of example {}".format)
        return scores

    def check(self, output: Any) -> None:
        """Raises or warns of what the first output says of `score` and `target`."""
        self._check_output(output, self.num_examples)
        if self.score == "softmax":
            _check_classes(output)
        check_range(self.target, self._scored(output, self.num_examples))

    def _scored(self, output: Tensor, rows: int) -> Tensor:
        scored = self._transform(at_least_single(output))
        self._check_output(scored, rows, "score")
        if self._shape is None:
            self._shape = scored.shape[1:]
        if scored.shape[1:] != self._shape:
            raise ValueError(
                "forward_func must return one shape in every pass, got "
                f"{tuple(scored.shape[1:])} after {tuple(self._shape)} for an example. "
                "Give score a function that brings the output to one shape."
            )
        return scored

    def _selected(self, scored: Tensor, examples: Tensor) -> Tensor:
        if self._table is not None and self._table.shape[1] == scored.dim() - 1:
            rows = torch.arange(len(scored), device=scored.device)
            return scored[(rows, *self._targets(scored, examples).unbind(1))]
        # One for all, or what Captum's own check refuses.
        return cast(Tensor, select_targets(scored, self.target))

    def _selected_several(self, scored: Tensor, examples: Tensor) -> Tensor:
        if scored.dim() > 2 and scored.shape[2:].numel() == 1:
            scored = scored.flatten(1)
        if scored.dim() != 2:
            raise ValueError(
                "target must be an index or a tuple of them per example for an output "
                f"of shape {tuple(scored.shape)}, got several, {self.num_targets} for "
                "each. Several targets need an output (N, classes)."
            )
        return scored.gather(1, self._targets(scored, examples))

    def _targets(self, scored: Tensor, examples: Tensor) -> Tensor:
        """Returns the rows of the table for these examples."""
        # Brought there once: a copy in every pass would wait for the device.
        self._table = cast(Tensor, self._table).to(scored.device)
        return self._table[examples.to(scored.device)]

    def _of_examples(self, value: Any, examples: Tensor) -> Any:
        follows = (
            isinstance(value, Tensor)
            and value.dim() > 0
            and value.shape[0] == self.num_examples
        )
        return value[examples.to(value.device)] if follows else value

    def _check_output(self, output: Any, rows: int, name: str = "forward_func") -> None:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"{name} must return a tensor, got {type(output).__name__}. Wrap it in "
                "a function that returns the tensor to be explained."
            )
        if output.dim() == 0 or output.shape[0] != rows:
            raise ValueError(
                f"{name} must return one row per example, got an output of shape "
                f"{tuple(output.shape)} for {rows} examples. "
                "Keep the first dimension of the inputs."
            )
        # A score of the caller's own may well read an output of integers.
        if name == "score" or not callable(self.score):
            _check_floating(name, output)


def _check_floating(name: str, output: Tensor) -> None:
    repair = "logits or probabilities instead of the classes"
    if output.is_quantized:
        repair = "output.dequantize()"
    require_floating(f"{name}'s output", output, f"Return {repair}.")


def _as_table(target: Target, num_examples: int) -> Tensor | None:
    """Returns `(N, dims)` indices of a target that has some for each example."""
    if isinstance(target, list) and target:
        rows = [i if isinstance(i, tuple) else (i,) for i in target]
        alike = len({len(row) for row in rows}) == 1 and len(rows) == num_examples
        return torch.tensor(rows, dtype=torch.long, device="cpu") if alike else None
    if isinstance(target, Tensor) and target.shape == (num_examples,):
        return target.unsqueeze(1)
    return None


def _check_classes(output: Tensor) -> None:
    if output.dim() < 2 or output.shape[1] < 2:
        raise ValueError(
            'score must not be "softmax" for fewer than two classes, got an output of '
            f'shape {tuple(output.shape)}. Use score="sigmoid" for a single logit or '
            'score="identity" for the output itself.'
        )
    rows = output.detach().float()
    if bool(((rows >= 0).all() & ((rows.sum(1) - 1).abs() < 1e-3).all()).item()):
        warn_user(
            "The model's outputs already are probabilities, and a second softmax "
            'flattens them. Use score="identity".',
        )
