"""What all methods share: names, constructor, checks and the order of the work."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.captum_compat import (
    LayerAttribution,
    PerturbationAttribution,
    format_output,
)
from captum_iscam._utils.forward import Baselines, TargetScore, at_least_single
from captum_iscam._utils.inputs import (
    Batch,
    batch_axis_named,
    check_inputs,
    require_positions,
)
from captum_iscam._utils.scores import Score, score_transform
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import keeping_buffers
from captum_iscam._utils.validation import require_floating
from captum_iscam._utils.warn import warn_of_examples
from captum_iscam.attr._engine import Channels
from captum_iscam.attr._error import (
    check_precision,
    relative_error,
    squared_rounding,
    warn_of_overflow,
)
from captum_iscam.attr._layer import (
    check_layer,
    check_outputs,
    check_rows,
    eager,
    evaluate_layer,
    one_position,
    require_floating_maps,
    reshaped,
)
from captum_iscam.attr._layout import warn_of_axes
from captum_iscam.attr._masking import masked_inputs
from captum_iscam.attr._row_order import layer_rows, sample, warn_of_order
from captum_iscam.reshape_transforms import READY_MADE, ReshapeTransform

Attributions = Tensor | tuple[Tensor, ...]
# The maps; or, on request, the maps and how far each may be off.
Explanation = (
    Attributions
    | list[Attributions]
    | tuple[Attributions, Attributions]
    | tuple[list[Attributions], list[Attributions]]
)
_T = TypeVar("_T")


class Seen(NamedTuple):
    """A layer, `s(x)`, the layer's outputs, `A` of each, and how often it ran."""

    layer: nn.Module
    input_score: Tensor
    outputs: tuple[Tensor, ...]
    maps: list[Tensor]
    calls: int = 1


@dataclass(frozen=True)
class Task:
    """What one call of `attribute` asks for, checked."""

    batch: Batch
    score: TargetScore
    scheme: Any  # a WeightingScheme, unless a method has an `_explain` of its own
    chunks: Chunks
    internal_batch_size: int | None
    additional_forward_args: object
    attribute_to_layer_input: bool
    relu_attributions: bool
    channel_softmax: bool
    show_progress: bool
    return_convergence_delta: bool


class NamedLayerAttribution(LayerAttribution):
    """A layer attribution with a readable name and one or several layers."""

    @classmethod
    def get_name(cls) -> str:
        """Returns the class name in words: "Layer Integrated Score-CAM"."""
        words = re.findall(r"[A-Z][a-z]+|[A-Z]+(?![a-z])", cls.__name__)
        return " ".join(words).replace(" CAM", "-CAM")

    def _each_layer(self, attribute: Callable[[nn.Module], _T]) -> _T | list[_T]:
        if isinstance(self.layer, list):
            return [attribute(layer) for layer in self.layer]
        return attribute(self.layer)


class LayerScoreMethod(NamedLayerAttribution, PerturbationAttribution):
    """What all score methods share: constructor, checks, loop and combination.

    Do not override the loop. A method implements `attribute`, which names its own
    arguments, and calls `_attribute` with what the model is to be shown.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain, usually
            the last one with a spatial output. A list of layers gives a list of maps.
            If a layer runs several times in a forward pass, its last call counts.
        device_ids (list[int], optional): Device ids of the `DataParallel` model that a
            `forward_func` contains, in the order in which its outputs are joined. Not
            needed where `forward_func` is that model. Default: None
        score (str or Callable, optional): The score `s` of an output: "softmax" over
            dimension 1 (a probability), "sigmoid", "identity" (the output as it is:
            logits, regression, models that end in a softmax), or a function of the
            output. `target` is selected from the result. Default: "softmax"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. Default: None

    Raises:
        TypeError: If `forward_func` or `reshape_transform` is no callable, or `layer`
            is no module.
        ValueError: If `score` is unknown or `layer` is an empty list.
    """

    takes_several_targets: ClassVar[bool] = True
    """`target` may be `(N, T)`: T maps of each example for the passes of one."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        *,
        score: Score = "softmax",
        reshape_transform: ReshapeTransform | None = None,
    ) -> None:
        score_transform(score)
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        PerturbationAttribution.__init__(self, forward_func)
        self.reshape_transform = check_layer(forward_func, layer, reshape_transform)
        self.score = score

    @property
    def multiplies_by_inputs(self) -> bool:
        """False: the maps have the units of the activations."""
        return False

    def _attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
        relu_attributions: bool,
        *,
        baselines: Baselines,
        channel_softmax: bool,
        internal_batch_size: int | None,
        show_progress: bool,
        scheme: Any,
        return_convergence_delta: bool = False,
    ) -> Explanation:
        """Returns the maps of the method that finds its weights by `scheme`."""
        if return_convergence_delta and channel_softmax:
            raise ValueError(
                "return_convergence_delta must be False with channel_softmax=True, got "
                "True. The softmax undoes what the error is relative to."
            )
        batch = check_inputs(inputs, baselines, self.forward_func)
        require_positions(batch.inputs)
        check_integers(batch)
        chunks = Chunks(
            internal_batch_size,
            batch.inputs,
            forward_func=self.forward_func,
            layer=self.layer,
        )
        score = TargetScore(
            keeping_buffers(self.forward_func),
            self.score,
            target,
            additional_forward_args,
            batch.num_examples,
            batch.device,
        )

        task = Task(
            batch=batch,
            score=score,
            scheme=scheme,
            chunks=chunks,
            internal_batch_size=internal_batch_size,
            additional_forward_args=additional_forward_args,
            attribute_to_layer_input=attribute_to_layer_input,
            relu_attributions=relu_attributions,
            channel_softmax=channel_softmax,
            show_progress=show_progress,
            return_convergence_delta=return_convergence_delta,
        )
        with torch.no_grad():
            # Every layer is seen, and refused if need be, before any is scored.
            seen = self._each_layer(lambda layer: self._see(layer, task))
            if isinstance(seen, list):
                both = [self._explain(one, task) for one in seen]
                maps, deltas = [one[0] for one in both], [one[1] for one in both]
                return (maps, deltas) if return_convergence_delta else maps
            found = self._explain(seen, task)
            return found if return_convergence_delta else found[0]

    def _see(self, layer: nn.Module, task: Task) -> Seen:
        """Returns `s(x)` and what the layer gives for the inputs."""
        batch, score = task.batch, task.score
        model, own = eager(score.forward_func), eager(self.forward_func)
        with batch_axis_named(model, batch.inputs, score.additional) as taken:
            sizes = task.chunks.fitted_to(own, batch.num_examples)
            with sizes, score.first_pass():
                evals, output = evaluate_layer(
                    model,
                    layer,
                    batch.inputs,
                    task.additional_forward_args,
                    self.device_ids,
                    task.attribute_to_layer_input,
                )
            score.check(output, batch.inputs)
            shaped = check_outputs([reshaped(self.reshape_transform, x) for x in evals])
            maps = [check_activations(value, batch, own) for value in shaped]
        pairs, of_input = zip(evals, maps, strict=True), task.attribute_to_layer_input
        transform = self.reshape_transform
        warn_of_axes(taken, batch.inputs, pairs, layer, transform, of_input)
        if task.return_convergence_delta:
            parts = [m for m in (layer, own) if isinstance(m, nn.Module)]
            check_precision(parts, batch.inputs, (*evals, output))
        return Seen(layer, score.of_inputs(output).to(batch.device), evals, maps)

    def _explain(self, seen: Seen, task: Task) -> tuple[Attributions, Attributions]:
        """Returns the maps, and how far each may be off."""
        maps, deltas = [], []
        of_input, count = task.attribute_to_layer_input, task.batch.num_examples
        for activations in seen.maps:
            with layer_rows(seen.layer, of_input, self.forward_func) as rows:
                channels = Channels(
                    activations, task.batch, task.score, task.chunks, seen.input_score
                )
            if not task.score.warned:
                # A faded input, then baselines and inputs in turn.
                warn_of_order(rows, sample(seen.outputs), count, every=2, skip=1)
            found = channels.weigh(
                task.scheme, partial(progress_bar, self.get_name(), task.show_progress)
            )
            weights = channels.to_dense(found.values)
            if task.channel_softmax:
                weights = softmax_over_channels(weights)
            maps.append(self._combine(weights, channels, task.relu_attributions))
            delta = found.squared_error
            if not task.channel_softmax:
                delta = delta + squared_rounding(channels, found.values)
            if task.return_convergence_delta:
                delta = relative_error(delta, maps[-1])
            deltas.append(delta if task.score.num_targets else delta.squeeze(1))
        task.score.warn_of_range()
        several = len(maps) > 1
        return (
            cast(Attributions, format_output(several, tuple(maps))),
            cast(Attributions, format_output(several, tuple(deltas))),
        )

    def _combine(self, weights: Tensor, channels: Channels, relu: bool) -> Tensor:
        """Returns the maps, and warns of those that are zero."""
        if not relu:
            return combine(weights, channels.activations, relu)
        maps = warn_of_overflow(weighted_sum(weights, channels.activations).relu())
        higher = (channels.score_gain < 0).to(maps.device)
        warn_of_zero_maps(
            maps,
            "the baseline scores higher than the input itself. Pass another one as "
            "baselines=, such as the blurred inputs; by default it is 0.",
            higher,
        )
        return warn_of_zero_maps(maps, NO_SUPPORT, ~higher)


def progress_bar(name: str, shown: bool, passes: int) -> tqdm[Any]:
    """Returns a bar of so many passes, which work of less than a second never shows."""
    return tqdm(
        total=passes, desc=name, unit="pass", leave=False, delay=1, disable=not shown
    )


def check_activations(
    activations: Tensor, batch: Batch, model: Callable[..., Any]
) -> Tensor:
    """Returns the layer's maps on the inputs' device, in at least float32."""
    shape = tuple(activations.shape)
    if activations.dim() > 2 and activations.shape[2:].numel() == 1:
        raise one_position(activations, model, batch.inputs)
    if activations.dim() < 3 or activations.shape[2:].numel() < 2:
        raise ValueError(
            f"layer must have a spatial output (N, K, ...), got the shape {shape}. "
            "Choose a convolutional layer further up, or pass reshape_transform."
        )
    check_rows(activations, batch.num_examples)
    masked = masked_inputs(batch.inputs, activations.dim())
    same_rank = [batch.inputs[i] for i in masked]
    if not same_rank or activations.dim() > 5:
        shapes = [tuple(x.shape) for x in batch.inputs]
        raise ValueError(
            "layer must have as many spatial dimensions as an input, one to three, "
            f"got an output of shape {shape} for inputs of shape {shapes}. "
            f"{READY_MADE}"
        )
    for tensor in same_rank:
        require_floating("inputs", tensor, "Convert them with inputs.float().")
    require_floating_maps(activations)
    if not bool(torch.isfinite(activations).all().item()):
        raise RuntimeError(
            "forward_func must give finite activations, got NaN or infinity from "
            "the layer in the pass of the unmasked inputs. Check the inputs, and "
            "use float32 or bfloat16 where float16 overflows."
        )
    return at_least_single(activations).to(batch.device)


def check_integers(batch: Batch) -> None:
    """Raises for integer inputs that a mask would be laid on."""
    ranks = {x.dim() for x in batch.inputs if x.is_floating_point() and x.dim() > 2}
    for x in batch.inputs:
        masked = not ranks or x.dim() in ranks
        if masked:
            require_floating(
                "inputs",
                x,
                "Convert them with inputs.float() to mask them, or pass them as "
                "additional_forward_args.",
            )


def softmax_over_channels(weights: Tensor) -> Tensor:
    """Returns the softmax of weights `(N, T, K)` over the channels."""
    shares = torch.softmax(weights, dim=2)
    entropy = torch.special.entr(shares).sum(2)
    warn_of_examples(
        entropy.exp() > 0.99 * shares.shape[2],
        "channel_softmax makes the channel weights all but equal for {}, so the map is "
        "the mean of the channels, whatever the target. Leave it out, or use a score "
        'that varies more, such as score="identity".',
    )
    return shares


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Returns `sum_k a_k A_k`, `(N, T, *spatial)`, for weights `(N, T, K)`."""
    flat = activations.flatten(2)
    with torch.autocast(activations.device.type, enabled=False):
        summed = torch.bmm(weights.to(flat.dtype), flat)
    return summed.view(*weights.shape[:2], *activations.shape[2:])


NO_SUPPORT = (
    "what supports the target is in no channel. relu_attributions=False shows what "
    "opposes it."
)


def combine(weights: Tensor, activations: Tensor, relu: bool) -> Tensor:
    """Returns the map `(N, T, *spatial)`, rectified on request, and warns of zeros."""
    return rectified(weighted_sum(weights, activations), relu, NO_SUPPORT)


def rectified(attributions: Tensor, relu: bool, reason: str) -> Tensor:
    """Returns finished maps, rectified on request; warns of zero and infinite ones."""
    attributions = warn_of_overflow(attributions)
    if relu:
        return warn_of_zero_maps(attributions.relu(), reason)
    return warn_of_zero_maps(
        attributions,
        "the layer gives zeros, or no channel has a weight. Explain another layer or "
        'target, or pass score="identity".',
    )


def warn_of_zero_maps(
    attributions: Tensor, reason: str, among: Tensor | None = None
) -> Tensor:
    """Returns maps `(N, T, *spatial)`, and warns of zero ones among some, `(N, T)`."""
    zero = (attributions == 0).unsqueeze(-1).flatten(2).all(2)
    warn_of_examples(
        zero if among is None else zero & among,
        f"The map is zero everywhere for {{}}: {reason}",
    )
    return attributions
