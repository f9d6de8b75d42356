"""What all methods share: names, constructor, checks and the order of the work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_iscam._batching import Chunks
from captum_iscam._captum import (
    LayerAttribution,
    PerturbationAttribution,
    format_output,
)
from captum_iscam._inputs import Batch, check_inputs
from captum_iscam._scoring import (
    Baselines,
    Score,
    Target,
    TargetScore,
    at_least_single,
    check_training_mode,
    score_transform,
)
from captum_iscam.attr._combine import combine, relative_error, softmax_over_channels
from captum_iscam.attr._engine import Channels, check_finite
from captum_iscam.attr._layer import (
    ReshapeTransform,
    check_layer,
    evaluate_layer,
)
from captum_iscam.attr._masking import MaskedInputs
from captum_iscam.attr._plans import Plan
from captum_iscam.reshape_transforms import READY_MADE

Attributions = Tensor | tuple[Tensor, ...]
# The maps; or, on request, the maps and how far each may be off.
Explanation = (
    Attributions
    | list[Attributions]
    | tuple[Attributions, Attributions]
    | tuple[list[Attributions], list[Attributions]]
)
_T = TypeVar("_T")


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
        forward_func (Callable): The model, or any function Captum accepts.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer whose channels are
            weighed. Where it is called several times, the last call counts.
        device_ids (list[int], optional): As in Captum, for `DataParallel` models
            inside a `forward_func`.
        score (str or Callable, optional): What the model's confidence is: "softmax"
            (over dimension 1 of the output, the papers' probability), "sigmoid",
            "identity" (the output itself) or a function of the output. The target is
            selected afterwards. Default: "softmax"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that give tokens. Default: None

    Raises:
        TypeError: If `layer` is no module or `reshape_transform` no callable.
        ValueError: If `score` is unknown.
    """

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
        plan: Plan,
        return_convergence_delta: bool = False,
    ) -> Explanation:
        """Returns the maps of the method that finds its weights by `plan`."""
        if return_convergence_delta and channel_softmax:
            raise ValueError(
                "return_convergence_delta must be False with channel_softmax=True, got "
                "True. The softmax undoes what the error is relative to."
            )
        batch = check_inputs(inputs, baselines, self.forward_func)
        _check_integers(batch)
        chunks = Chunks(internal_batch_size, batch.inputs)
        check_training_mode(self.forward_func)
        score = TargetScore(
            self.forward_func,
            self.score,
            target,
            additional_forward_args,
            batch.num_examples,
        )

        def see(layer: nn.Module) -> tuple[Tensor, list[Tensor]]:
            evals, output = evaluate_layer(
                self.forward_func,
                layer,
                batch.inputs,
                additional_forward_args,
                self.device_ids,
                attribute_to_layer_input,
            )
            score.check(output)
            confidence = score.of_output(output, torch.arange(batch.num_examples))
            maps = [self._check_activations(value, batch) for value in evals]
            check_finite(confidence, "the pass of the unmasked input of example {}")
            return confidence.to(batch.device), maps

        def attribute(
            seen: tuple[Tensor, list[Tensor]],
        ) -> tuple[Attributions, Attributions]:
            confidence, activations = seen
            maps, deltas = [], []
            for values in activations:
                views = MaskedInputs(batch, values)
                with Channels(
                    values, views, score, chunks, confidence, progress
                ) as channels:
                    weights = plan.weigh(channels)
                shares = weights.values
                if channel_softmax:
                    shares = softmax_over_channels(shares)
                maps.append(combine(shares, values, relu_attributions))
                deltas.append(relative_error(weights.error, maps[-1]))
            several = len(maps) > 1
            return (
                cast(Attributions, format_output(several, tuple(maps))),
                cast(Attributions, format_output(several, tuple(deltas))),
            )

        def progress() -> tqdm[Any]:
            return tqdm(
                desc=self.get_name(),
                unit="pass",
                leave=False,
                delay=1,
                disable=not show_progress,
            )

        with torch.no_grad():
            # Every layer is seen, and refused if need be, before any is scored.
            seen = self._each_layer(see)
            if isinstance(seen, list):
                both = [attribute(one) for one in seen]
                maps, deltas = [one[0] for one in both], [one[1] for one in both]
                return (maps, deltas) if return_convergence_delta else maps
            found = attribute(seen)
            return found if return_convergence_delta else found[0]

    def _reshape(self, activations: Tensor) -> Tensor:
        if self.reshape_transform is None:
            return activations
        maps: Any = self.reshape_transform(activations)
        if not isinstance(maps, Tensor):
            raise TypeError(
                "reshape_transform must return a tensor (N, K, *spatial), got "
                f"{type(maps).__name__}. Return the maps alone."
            )
        return maps

    def _check_activations(self, activations: Tensor, batch: Batch) -> Tensor:
        """Returns the layer's maps on the inputs' device, in at least float32."""
        activations = self._reshape(activations)
        shape = tuple(activations.shape)
        if activations.dim() < 3 or activations.shape[2:].numel() < 2:
            raise ValueError(
                f"layer must have a spatial output (N, K, ...), got the shape {shape}. "
                "Choose a convolutional layer further up, or pass reshape_transform."
            )
        if shape[0] != batch.num_examples:
            raise ValueError(
                "layer must keep one row per example, got an output of shape "
                f"{shape} for {batch.num_examples} examples. "
                "Choose a layer that keeps them apart, or pass reshape_transform."
            )
        same_rank = [x for x in batch.inputs if x.dim() == activations.dim()]
        if not same_rank or activations.dim() > 5:
            shapes = [tuple(x.shape) for x in batch.inputs]
            raise ValueError(
                "layer must have as many spatial dimensions as an input, one to three, "
                f"got an output of shape {shape} for inputs of shape {shapes}. "
                f"{READY_MADE}"
            )
        for tensor in (*same_rank, activations):
            if not tensor.is_floating_point():
                raise TypeError(
                    "inputs and the layer's output must be floating point, got "
                    f"{tensor.dtype}. Convert the inputs with inputs.float()."
                )
        if not bool(torch.isfinite(activations).all().item()):
            raise RuntimeError(
                "forward_func must give finite activations, got NaN or infinity from "
                "the layer in the pass of the unmasked inputs. Check the inputs, and "
                "use float32 or bfloat16 where float16 overflows."
            )
        return at_least_single(activations).to(batch.device)


def _check_integers(batch: Batch) -> None:
    """Raises for integer inputs that a mask would be laid on."""
    ranks = {x.dim() for x in batch.inputs if x.is_floating_point() and x.dim() > 2}
    for x in batch.inputs:
        masked = not ranks or x.dim() in ranks
        if masked and not x.is_floating_point():
            raise TypeError(
                f"inputs must be floating point to be masked, got {x.dtype}. Convert "
                "them with inputs.float(), or pass them as additional_forward_args."
            )
