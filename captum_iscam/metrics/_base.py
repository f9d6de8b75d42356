"""What metrics share: declaration, checked inputs, and scores of perturbed inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import (
    Baselines,
    Score,
    TargetScore,
    check_training_mode,
)
from captum_iscam._utils.inputs import Batch, check_inputs
from captum_iscam._utils.target import Target, in_integers, several_targets
from captum_iscam._utils.validation import as_count
from captum_iscam.metrics._maps import Attributions, check_count, check_maps, finite

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class Metric(Protocol[_P, _R_co]):
    """A metric: a function that declares its direction and its unit.

    Attributes:
        higher_is_better (bool): Whether a larger value speaks for the map.
        unit (str): "percent" (0 to 100), "score" (the unit of `score`, by default a
            probability), "score squared", "share" (0 to 1), "correlation distance"
            (0 to 2) or "relative change" (from 0).

    Examples::

        >>> from captum_iscam.metrics import average_drop, pointing_game
        >>> average_drop.higher_is_better, average_drop.unit
        (False, 'percent')
        >>> pointing_game.higher_is_better, pointing_game.unit
        (True, 'share')
    """

    higher_is_better: bool
    unit: str

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Returns one value per example."""
        ...


def metric(
    *, higher_is_better: bool, unit: str
) -> Callable[[Callable[_P, _R_co]], Metric[_P, _R_co]]:
    """Declares direction and unit of a function, which otherwise stays as it is."""

    def declare(function: Callable[_P, _R_co]) -> Metric[_P, _R_co]:
        declared = cast(Metric[_P, _R_co], function)
        declared.higher_is_better = higher_is_better
        declared.unit = unit
        return declared

    return declare


Inputs = Tensor | tuple[Tensor, ...]
Perturbation = Callable[[Tensor, Tensor], Mapping[int, Tensor]]
"""Takes each row's example and its index, returns the inputs that differ from `x`."""


def unperturbed(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
    """The identity: every input as it is."""
    return {}


def check_batch_and_maps(
    inputs: Inputs, attributions: Attributions, baselines: Baselines
) -> tuple[Batch, Tensor, list[int]]:
    """Returns the examples, their maps, and which inputs the maps speak of."""
    batch = check_inputs(inputs, baselines)
    maps = check_maps(attributions)
    check_count(maps, batch.num_examples, batch.device)
    positions = [i for i, x in enumerate(batch.inputs) if x.dim() == maps.dim()]
    if not positions:
        shapes = [tuple(x.shape) for x in batch.inputs]
        raise ValueError(
            "attributions must have as many dimensions as an input, got "
            f"{tuple(maps.shape)} for inputs of shape {shapes}. "
            "Pass maps of the shape (N, 1, ...)."
        )
    for i in positions:
        if not batch.inputs[i].is_floating_point():
            raise TypeError(
                f"inputs must be floating point, got {batch.inputs[i].dtype}. "
                "Convert them with inputs.float()."
            )
    return batch, maps, positions


def one_target(target: Target) -> Target:
    """Returns the target, or raises where it holds several for an example."""
    nested = isinstance(target, list) and any(isinstance(row, list) for row in target)
    found = in_integers(target) if nested else target
    if not isinstance(found, Tensor) or found.dim() != 2:
        return target
    found = cast(Tensor, in_integers(found))
    several_targets(found, len(found))  # one-hot rows have a better repair
    if found.shape[1] == 1:
        return found[:, 0]
    raise ValueError(
        f"target must hold one class per example, got the shape {tuple(found.shape)}. "
        "A metric takes one target and one map per example: pass target[:, t] and "
        "maps[:, t:t+1]."
    )


class MetricInputs:
    """The arguments that metrics share, checked once, and the model behind them.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        inputs (Tensor or tuple[Tensor, ...]): The examples.
        attributions (Tensor): Their maps `(N, 1, *spatial)`.
        target (int, tuple, Tensor or list, optional): Captum's target forms.
        additional_forward_args (Any, optional): Further arguments of the model.
        score (str or Callable): The transform between output and target.
        baselines (Tensor, int, float or tuple, optional): What a hidden place shows.
        internal_batch_size (int, optional): Perturbed inputs per forward pass.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: Inputs,
        attributions: Attributions,
        target: Target,
        additional_forward_args: object,
        score: Score,
        baselines: Baselines,
        internal_batch_size: int | None,
    ) -> None:
        target = one_target(target)
        batch, maps, positions = check_batch_and_maps(inputs, attributions, baselines)
        self.batch, self.maps, self.positions = batch, maps, positions
        self.valid = finite(self.maps)
        self.score = TargetScore(
            forward_func,
            score,
            target,
            additional_forward_args,
            self.batch.num_examples,
            self.batch.device,
        )
        self._chunks = Chunks(
            internal_batch_size, self.batch.inputs, forward_func=forward_func
        )
        self._unchecked: list[tuple[Tensor, Tensor]] = []
        check_training_mode(forward_func)

    @property
    def masked(self) -> list[Tensor]:
        """The inputs that the maps speak of."""
        return [self.batch.inputs[i] for i in self.positions]

    def score_of(self, inputs: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """Returns the score of each row; `check_scores` follows the last pass."""
        # A copy, since a model may return the same memory in every pass.
        scores = self.score(inputs, examples).clone()
        self._unchecked.append((scores, examples))
        return scores

    def check_scores(self) -> None:
        """Raises for a score since the last check that is not finite.

        A check in each pass would wait for the device each time.
        """
        if not self._unchecked:
            return
        scores, examples = map(torch.cat, zip(*self._unchecked, strict=True))
        self._unchecked.clear()
        strange = ~torch.isfinite(scores)
        if bool(strange.any().item()):
            row = strange.nonzero()[0, 0]
            raise RuntimeError(
                f"forward_func must give finite scores, got {scores[row].item()} for "
                f"an input made from example {int(examples[row])}. Check the inputs, "
                "and use float32 or bfloat16 where float16 overflows."
            )

    def scores(self, count: int, *perturbations: Perturbation) -> list[Tensor]:
        """Returns the scores of `count` perturbed inputs of each example, `(N, count)`.

        One table for each perturbation. Examples whose map is not finite are not given
        to the model; their scores are NaN.
        """
        examples = self.valid.nonzero().reshape(-1)
        with torch.no_grad():
            tables = [
                self._table(examples, count, perturb) for perturb in perturbations
            ]
        self.check_scores()
        return tables

    def _table(self, examples: Tensor, count: int, perturb: Perturbation) -> Tensor:
        found: list[Tensor] = []

        def body(start: int, stop: int) -> None:
            rows = torch.arange(start, stop, device=examples.device)
            example_index, index = examples[rows // count], rows % count
            changed = perturb(example_index, index)
            inputs = tuple(
                changed[i] if i in changed else x[example_index]
                for i, x in enumerate(self.batch.inputs)
            )
            found.append(self.score_of(inputs, example_index))

        self._chunks.run(len(examples) * count, body)
        if not found:
            shape = (self.batch.num_examples, count)
            return self.maps.new_full(shape, torch.nan)
        table = torch.cat(found).view(-1, count)
        result = table.new_full((self.batch.num_examples, count), torch.nan)
        result[examples] = table
        return result


# Calls of the caller's explanation function, where a metric needs new maps. A function
# that has an attribute `takes_several_targets = True` promises that for a target
# `(N, T)` it gives maps `(N, T, *spatial)`, those that `T` calls would give. The
# attribute may also be that of the object whose bound method the function is, or of
# what `functools.partial` holds. A metric that compares two targets asks once for both.

ExplanationFunc = Callable[..., Any]


def explain(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target,
    additional_forward_args: object,
) -> Tensor:
    """Returns the maps `(N, 1, *spatial)` the function gives, checked and detached."""
    target = one_target(target)
    maps = _call(explanation_func, inputs, target, additional_forward_args)
    return _checked(maps)


def explain_both(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    targets: tuple[Target, Target],
    additional_forward_args: object,
) -> tuple[Tensor, Tensor]:
    """Returns the maps of two targets, by one call where the function takes both."""
    both = None
    if takes_several_targets(explanation_func):
        both = _in_columns(
            targets, len(inputs[0] if isinstance(inputs, tuple) else inputs)
        )
    if both is None:
        first, second = (
            explain(explanation_func, inputs, target, additional_forward_args)
            for target in targets
        )
        return first, second
    maps = _call(explanation_func, inputs, both, additional_forward_args)
    if not isinstance(maps, Tensor) or maps.dim() < 3 or maps.shape[1] != 2:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(
            "explanation_func must give maps (N, 2, ...) for two targets of each "
            f"example, as its takes_several_targets promises, got {got}. Give a map "
            "for each target, or remove the attribute."
        )
    return _checked(maps[:, :1]), _checked(maps[:, 1:])


def takes_several_targets(explanation_func: ExplanationFunc) -> bool:
    """Returns whether the function promises to take targets `(N, T)`."""
    while isinstance(explanation_func, partial):
        explanation_func = explanation_func.func
    owner = getattr(explanation_func, "__self__", explanation_func)
    return getattr(owner, "takes_several_targets", False) is True


def _call(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target,
    additional_forward_args: object,
) -> Any:
    further: dict[str, object] = {}
    if additional_forward_args is not None:
        further["additional_forward_args"] = additional_forward_args
    return explanation_func(inputs, target=target, **further)


def _checked(maps: Any) -> Tensor:
    # A copy, since a model whose output is the map may return the same memory again.
    return check_maps(maps, "the maps of explanation_func").clone()


def _in_columns(targets: tuple[Target, Target], num_examples: int) -> Tensor | None:
    first, second = (_column(target, num_examples) for target in targets)
    if first is None or second is None:
        return None
    return torch.stack([first, second], 1)


def _column(target: Target, num_examples: int) -> Tensor | None:
    """Returns the class of each example, `(N,)`, or None for a target of another form.

    A negative class is another form: only a single one for all counts from the end.
    """
    target = in_integers(one_target(target))
    entries = target if isinstance(target, list) else [target]
    if any(entry is None or isinstance(entry, tuple) for entry in entries):
        return None
    column = torch.as_tensor(target, device="cpu")
    count = num_examples if isinstance(target, list) else column.numel()
    if column.dim() > 1 or column.numel() != count or count not in (1, num_examples):
        return None
    return None if (column < 0).any() else column.reshape(-1).expand(num_examples)


def check_samples(n_perturb_samples: int) -> None:
    """Raises unless there is at least one perturbed sample per example."""
    as_count("n_perturb_samples", n_perturb_samples, "Leave it out for the default.")


def home_of(generator: torch.Generator | None) -> torch.device:
    """Returns the generator's device, or the CPU, where a seed is alike everywhere."""
    return torch.device("cpu") if generator is None else generator.device
