"""What metrics share: declaration, checked inputs, and scores of perturbed inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import Baselines, TargetScore
from captum_iscam._utils.inputs import Batch, check_inputs
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target, in_integers, several_targets
from captum_iscam._utils.training import keeping_buffers
from captum_iscam._utils.validation import as_count, require_finite, require_floating
from captum_iscam.metrics._draws import WatchedDraws
from captum_iscam.metrics._maps import Attributions, check_count, check_maps, is_finite
from captum_iscam.metrics._steadiness import SteadinessCheck

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class Metric(Protocol[_P, _R_co]):
    """A metric: a function that declares its direction and its unit.

    Attributes:
        higher_is_better (bool or None): Whether a larger value means a better map; None
            where neither does, so that a benchmark names no best method.
        unit (str): "percent" (0 to 100), "score" (the unit of the metric's `score`, by
            default a probability), "score squared", "share" (0 to 1), "correlation"
            (-1 to 1), "correlation distance" (0 to 2) or "relative change" (0 and
            above).

    Examples::

        >>> from captum_iscam.metrics import average_drop, pointing_game
        >>> average_drop.higher_is_better, average_drop.unit
        (False, 'percent')
        >>> pointing_game.higher_is_better, pointing_game.unit
        (True, 'share')
    """

    higher_is_better: bool | None
    unit: str

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Returns one value per example."""
        ...


def metric(
    *, higher_is_better: bool | None, unit: str
) -> Callable[[Callable[_P, _R_co]], Metric[_P, _R_co]]:
    """Sets the direction and the unit of a function, which is otherwise unchanged."""

    def declare(function: Callable[_P, _R_co]) -> Metric[_P, _R_co]:
        declared = cast(Metric[_P, _R_co], function)
        declared.higher_is_better = higher_is_better
        declared.unit = unit
        return declared

    return declare


Inputs = Tensor | tuple[Tensor, ...]
Perturbation = Callable[[Tensor, Tensor], Mapping[int, Tensor]]
"""Perturbs the rows of one forward pass.

It takes the example and the index of the perturbation of each row, and returns the
perturbed inputs by their index in `inputs`. An input it does not return is passed
unchanged.
"""


def unperturbed(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
    """The identity: every input is passed unchanged."""
    return {}


def check_batch_and_maps(
    inputs: Inputs, attributions: Attributions, baselines: Baselines
) -> tuple[Batch, Tensor, list[int]]:
    """Returns the examples, their maps, and the indices of the inputs to perturb.

    These are the inputs with as many dimensions as the maps.
    """
    batch = check_inputs(inputs, baselines)
    maps = check_maps(attributions)
    check_count(maps, batch.num_examples, batch.device)
    indices = [i for i, x in enumerate(batch.inputs) if x.dim() == maps.dim()]
    if not indices:
        shapes = [tuple(x.shape) for x in batch.inputs]
        raise ValueError(
            "attributions must have as many dimensions as an input, got "
            f"{tuple(maps.shape)} for inputs of shape {shapes}. "
            "Pass maps of the shape (N, 1, ...)."
        )
    for i in indices:
        require_floating("inputs", batch.inputs[i], "Convert them with inputs.float().")
    return batch, maps, indices


def one_target(target: Target) -> Target:
    """Returns the target, and raises if it holds several classes per example."""
    nested = isinstance(target, list) and any(isinstance(row, list) for row in target)
    found = in_integers(target) if nested else target
    if not isinstance(found, Tensor) or found.dim() != 2:
        return target
    found = cast(Tensor, in_integers(found))
    several_targets(found, len(found))  # raises an error of its own for one-hot rows
    if found.shape[1] == 1:
        return found[:, 0]
    raise ValueError(
        f"target must hold one class per example, got the shape {tuple(found.shape)}. "
        "A metric takes one target and one map per example: pass target[:, t] and "
        "maps[:, t:t+1]."
    )


class ScoredModel(NamedTuple):
    """The model, and how a score is taken from its output.

    Attributes:
        forward_func (Callable): The model, or any function Captum accepts.
        target (int, tuple, Tensor or list, optional): Captum's target forms.
        additional_forward_args (Any): Further arguments of the model.
        score (str or Callable): The transform between output and target.
    """

    forward_func: Callable[..., Any]
    target: Target
    additional_forward_args: object
    score: Score


class MetricInputs:
    """The arguments that metrics share, checked once, and scores of perturbed inputs.

    Args:
        model (ScoredModel): The model and how its output is scored.
        inputs (Tensor or tuple[Tensor, ...]): The examples.
        attributions (Tensor): Their maps `(N, 1, *spatial)`.
        internal_batch_size (int, optional): Perturbed inputs per forward pass.
        baselines (Tensor, int, float or tuple, optional): What replaces a removed
            pixel. Default: None, that is 0

    Attributes:
        batch (Batch): Inputs and baselines as tuples of tensors.
        maps (Tensor): The maps in single precision or better, detached.
        indices (list[int]): Indices in `inputs` of those that are perturbed.
        valid (Tensor): Which examples have a finite map, `(N,)`.
    """

    def __init__(
        self,
        model: ScoredModel,
        inputs: Inputs,
        attributions: Attributions,
        internal_batch_size: int | None,
        baselines: Baselines = None,
    ) -> None:
        forward_func, target, additional_forward_args, score = model
        target = one_target(target)
        batch, maps, indices = check_batch_and_maps(inputs, attributions, baselines)
        self.batch, self.maps, self.indices = batch, maps, indices
        self.valid = is_finite(self.maps)
        self._score = TargetScore(
            keeping_buffers(forward_func),
            score,
            target,
            additional_forward_args,
            self.batch.num_examples,
            self.batch.device,
        )
        self.chunks = Chunks(
            internal_batch_size, self.batch.inputs, forward_func=forward_func
        )
        self._unchecked: list[tuple[Tensor, Tensor]] = []
        self._steadiness = SteadinessCheck(forward_func, self._score, batch)

    @property
    def perturbed(self) -> list[Tensor]:
        """The inputs that are perturbed."""
        return [self.batch.inputs[i] for i in self.indices]

    def score_of(self, inputs: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """Returns the score of each row. Call `check_scores` after the last pass."""
        self._steadiness.before(inputs, examples)
        # A copy, since a model may return the same memory in every pass.
        scores = self._score(inputs, examples).clone()
        self._steadiness.after(scores)
        self._unchecked.append((scores, examples))
        return scores

    def check_scores(self) -> None:
        """Raises if a score since the last check is not finite.

        One check after all passes, as each check waits for the device. The first one
        also warns of scores that depend on more than the inputs.
        """
        if not self._unchecked:
            return
        scores, examples = map(torch.cat, zip(*self._unchecked, strict=True))
        self._unchecked.clear()
        require_finite(
            scores,
            lambda row: f"the pass of an input made from example {examples[row]}",
        )
        self._steadiness.finish()
        self._score.warn_of_range()

    def scores(self, count: int, *perturbations: Perturbation) -> list[Tensor]:
        """Returns the scores of `count` perturbed inputs of each example, `(N, count)`.

        There is one table per perturbation. Examples whose map is not finite are not
        passed to the model; their scores are NaN.
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

        self.chunks.run(len(examples) * count, body)
        if not found:
            shape = (self.batch.num_examples, count)
            return self.maps.new_full(shape, torch.nan)
        table = torch.cat(found).view(-1, count)
        result = table.new_full((self.batch.num_examples, count), torch.nan)
        result[examples] = table
        return result


# Metrics that need new maps call the caller's explanation function. With an attribute
# `takes_several_targets = True` a function promises that for a target `(N, T)` it
# returns maps `(N, T, *spatial)`, equal to those of `T` calls. The attribute may also
# be on the object whose bound method the function is, or on the function inside a
# `functools.partial`. A metric that compares two targets then calls the function once.

ExplanationFunc = Callable[..., Any]


def explain(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target,
    additional_forward_args: object,
) -> Tensor:
    """Returns the function's maps `(N, 1, *spatial)`, checked and detached."""
    target = one_target(target)
    maps = _call(explanation_func, inputs, target, additional_forward_args)
    return _checked_copy(maps)


def explain_both(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    targets: tuple[Target, Target],
    additional_forward_args: object,
) -> tuple[Tensor, Tensor]:
    """Returns the maps of two targets, by one call if the function takes both."""
    both = None
    if takes_several_targets(explanation_func):
        both = _in_columns(
            targets, len(inputs[0] if isinstance(inputs, tuple) else inputs)
        )
    if both is None:
        with WatchedDraws(explanation_func):
            first, second = (
                explain(explanation_func, inputs, target, additional_forward_args)
                for target in targets
            )
        return first, second
    maps = _call(explanation_func, inputs, both, additional_forward_args)
    if not isinstance(maps, Tensor) or maps.dim() < 3 or maps.shape[1] != 2:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(
            "explanation_func must return maps (N, 2, ...) for two targets of each "
            f"example, as its takes_several_targets promises, got {got}. Return a map "
            "for each target, or remove the attribute."
        )
    return _checked_copy(maps[:, :1]), _checked_copy(maps[:, 1:])


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


def _checked_copy(maps: Any) -> Tensor:
    # A copy, since a function may return its maps in the same memory in every call.
    return check_maps(maps, "the maps of explanation_func").clone()


def _in_columns(targets: tuple[Target, Target], num_examples: int) -> Tensor | None:
    first, second = (_column(target, num_examples) for target in targets)
    if first is None or second is None:
        return None
    return torch.stack([first, second], 1)


def _column(target: Target, num_examples: int) -> Tensor | None:
    """Returns the class of each example, `(N,)`, or None for a target of another form.

    A negative class is one of these: it counts from the end, which Captum allows only
    for a single integer for all examples.
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


def check_values(name: str, values: object, num_examples: int) -> Tensor:
    """Returns what the metric `name` returned, one value per example, or raises."""
    shape = (num_examples,)
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name} must return a tensor with one value per example, got "
            f"{type(values).__name__}. Return a tensor of the shape (N,), here {shape}."
        )
    if tuple(values.shape) != shape:
        raise ValueError(
            f"{name} must return one value per example, a tensor of the shape {shape}, "
            f"got the shape {tuple(values.shape)}. Average over other dimensions, but "
            "not over the examples."
        )
    return values


def check_samples(n_perturb_samples: int) -> None:
    """Raises unless there is at least one perturbed input per example."""
    as_count("n_perturb_samples", n_perturb_samples, "Omit it for the default.")


def generator_device(generator: torch.Generator | None) -> torch.device:
    """Returns the generator's device, or the CPU, so that a seed suits every device."""
    return torch.device("cpu") if generator is None else generator.device
