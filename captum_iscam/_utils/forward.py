"""What the model says of an input: `s(z)`, one number per example.

Attribution methods and metrics ask the model the same question in the same way: run
`forward_func` on inputs derived from some of the caller's examples, turn the output
into a score, and pick each example's target from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from captum_iscam._utils.captum_compat import (
    format_additional_forward_args,
    run_forward,
    select_targets,
)
from captum_iscam._utils.further_arguments import check_arrays, named, of_examples
from captum_iscam._utils.scores import (
    LastSigmoid,
    OutputRange,
    Score,
    are_probabilities,
    ends_in_sigmoid,
    score_transform,
    warn_of_score,
)
from captum_iscam._utils.target import (
    Target,
    as_table,
    check_dims,
    check_form,
    check_range,
    in_integers,
    several_targets,
)
from captum_iscam._utils.training import runs_compiled
from captum_iscam._utils.validation import (
    require_dense,
    require_finite,
    require_floating,
)

Baselines: TypeAlias = Tensor | int | float | tuple[Tensor | int | float, ...] | None


def at_least_single(tensor: Tensor) -> Tensor:
    """Returns half precision as float32, anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


class TargetScore:
    """The score of the target, for inputs made from chosen examples of a batch.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        score (str or Callable): The transform between output and target.
        target (int, tuple, Tensor or list, optional): Captum's target forms.
        additional_forward_args (Any, optional): Captum's, of which `of_examples` makes
            those of a pass.
        num_examples (int): `N`.
        device (torch.device, optional): Where the outputs will probably be. The target
            goes there at once: later it would wait for the passes before it.

    Attributes:
        num_targets (int or None): `T` where the target is `(N, T)`, else None.
        warned (bool): Whether a warning said that scores are not the inputs' alone.
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
        # Captum compares with the rows of an output, in which not every example need
        # have one.
        if several is None:
            check_form(target, num_examples)
        self.target = target
        self.num_targets = None if several is None else several.shape[1]
        # Rows of targets, or of an index per dimension of the output.
        table = as_table(target, num_examples) if several is None else several
        self._table = None if table is None else table.to(device or table.device)
        self.additional = format_additional_forward_args(additional_forward_args)
        check_arrays(self.additional, num_examples)
        self.num_examples = num_examples
        self._shape: torch.Size | None = None
        self._checked = False
        self._range: OutputRange | None = None
        self._last_sigmoid = LastSigmoid()
        self._has_sigmoid = False
        self.warned = False

    def __call__(self, inputs: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """Returns the scores of `inputs`, row i made from example `examples[i]`.

        They are `(rows,)`, or `(rows, T)` where each example has `T` targets.
        """
        additional = self.additional_of(examples)
        with named(additional, len(examples), self.num_examples), self.first_pass():
            output = run_forward(
                self.forward_func, inputs, additional_forward_args=additional
            )
        self.check(output, inputs)
        return self.of_output(output, examples)

    def first_pass(self) -> AbstractContextManager[Any]:
        """Lets the pass before `check` show whether it ends in a sigmoid.

        Compiled code is left out, which would be compiled once more for it.
        """
        if self._checked or callable(self.score) or runs_compiled(self.forward_func):
            return nullcontext()
        return self._last_sigmoid

    def additional_of(self, examples: Tensor) -> tuple[Any, ...] | None:
        """Returns the further arguments of the model for rows of these examples."""
        return self.additional and tuple(
            of_examples(value, examples, self.num_examples) for value in self.additional
        )

    def of_output(self, output: Any, examples: Tensor) -> Tensor:
        """Returns the score of each row of a model's output, as `__call__` does."""
        self._check_output(output, len(examples))
        scored = self._scored(output, len(examples))
        if self._range is not None:
            self._range.note(output)
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

    def of_inputs(self, output: Any) -> Tensor:
        """Returns `s(x)`, `(N, T)`, from the output for the inputs themselves.

        A copy, since a model may write every output to the same memory.
        """
        examples = torch.arange(self.num_examples, device=output.device)
        scores = self.of_output(output, examples).clone().view(self.num_examples, -1)
        require_finite(scores, "the pass of the unmasked input of example {}".format)
        return scores

    def check(self, output: Any, inputs: Sequence[Tensor]) -> None:
        """Raises or warns of what the first output says of `score` and `target`."""
        if self._checked:
            return
        rows = len(inputs[0])
        self._check_output(output, rows)
        if self.score == "softmax":
            check_classes(output)
        scored = self._scored(output, rows)
        if self.num_targets is None:
            check_dims(self.target, scored)
        else:
            scored = self._of_classes(scored)
        check_range(self.target, scored)
        self._has_sigmoid = self._last_sigmoid.gave(output)
        self._has_sigmoid |= ends_in_sigmoid(self.forward_func)
        if warn_of_score(self.score, output, inputs, self._has_sigmoid):
            self._range = OutputRange(self.score)
        self._checked = True

    def warn_of_range(self) -> None:
        """Warns once where the outputs of all passes look like sigmoids; this waits."""
        if self._range is not None:
            self._range.warn()
            self._range = None

    def gives_probabilities(self, output: Tensor) -> Tensor:
        """Returns whether the model, or a function, makes probabilities, one bool.

        They add up to 1, or the model ends in a sigmoid.
        """
        if self.score in ("softmax", "sigmoid"):
            return torch.zeros((), dtype=torch.bool, device=output.device)
        ends = self.score == "identity" and self._has_sigmoid
        return are_probabilities(self._scored(output.detach(), len(output)), ends)

    def _scored(self, output: Tensor, rows: int) -> Tensor:
        scored = self._transform(at_least_single(output))
        self._check_output(scored, rows, "score")
        if self._shape is None:
            self._shape = scored.shape[1:]
        if scored.shape[1:] != self._shape:
            raise ValueError(
                "forward_func must return one shape in every pass, got "
                f"{tuple(scored.shape[1:])} after {tuple(self._shape)} for an example. "
                f"{self._repair_of_shape()}"
            )
        return scored

    def _repair_of_shape(self) -> str:
        if self.additional:
            return (
                "If a tensor of additional_forward_args has as many rows as there are "
                "examples, but not one for each, pass the function lambda x: model(x, "
                "value) as forward_func."
            )
        return "Give score a function that brings the output to one shape."

    def _selected(self, scored: Tensor, examples: Tensor) -> Tensor:
        if self._table is not None:
            rows = torch.arange(len(scored), device=scored.device)
            return scored[(rows, *self._targets(scored, examples).unbind(1))]
        # One for all.
        return cast(Tensor, select_targets(scored, self.target))

    def _selected_several(self, scored: Tensor, examples: Tensor) -> Tensor:
        scored = self._of_classes(scored)
        return scored.gather(1, self._targets(scored, examples))

    def _of_classes(self, scored: Tensor) -> Tensor:
        """Returns scores `(rows, classes)`, or raises where they are others."""
        if scored.dim() > 2 and scored.shape[2:].numel() == 1:
            scored = scored.flatten(1)
        if scored.dim() != 2:
            raise ValueError(
                "target must be an index or a tuple of them per example for an output "
                f"of shape {tuple(scored.shape)}, got several, {self.num_targets} for "
                "each. Several targets need an output (N, classes)."
            )
        return scored

    def _targets(self, scored: Tensor, examples: Tensor) -> Tensor:
        """Returns the rows of the table for these examples."""
        # Brought there once: a copy in every pass would wait for the device.
        self._table = cast(Tensor, self._table).to(scored.device)
        return self._table[examples.to(scored.device)]

    def _check_output(self, output: Any, rows: int, name: str = "forward_func") -> None:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"{name} must return a tensor, got {type(output).__name__}. Wrap it in "
                "a function that returns the tensor to be explained."
            )
        if not output.is_quantized:  # said below, if it is no score's matter
            require_dense(f"{name}'s output", output)
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


def check_classes(output: Tensor) -> None:
    """Raises where a softmax over dimension 1 would be 1 everywhere."""
    if output.dim() < 2 or output.shape[1] < 2:
        last = "score=lambda output: output.softmax(-1) for classes that come last, "
        raise ValueError(
            'score must not be "softmax" for fewer than two classes, got an output of '
            f"shape {tuple(output.shape)}. Use {last * (output.dim() > 2)}"
            'score="sigmoid" for a single logit or score="identity" for the output '
            "itself."
        )
