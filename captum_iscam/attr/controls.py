"""Controls: maps that know nothing of the class, in the dress of a method.

A comparison says little without them. A method that does not beat a random map has
explained nothing; one that does not beat the channel mean owes its map to the layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import format_output, log_usage
from captum_iscam._utils.forward import Baselines, Score, at_least_single
from captum_iscam._utils.inputs import check_inputs
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import (
    Attributions,
    NamedLayerAttribution,
    warn_of_zero_maps,
)
from captum_iscam.attr._layer import check_layer, evaluate_layer, reshaped
from captum_iscam.reshape_transforms import ReshapeTransform


class _Control(NamedLayerAttribution, ABC):
    """What all controls share: they look at the layer's output and nothing else."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        *,
        score: Score = "softmax",
        reshape_transform: ReshapeTransform | None = None,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)
        self.reshape_transform = check_layer(forward_func, layer, reshape_transform)
        self.score = score

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        baselines: Baselines = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Attributions | list[Attributions]:
        """Returns the control's map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): See
                :meth:`captum_iscam.attr.LayerScoreCAM.attribute`.
            target (int, tuple, Tensor or list, optional): Not used.
            additional_forward_args (Any, optional): Further arguments of the model.
            attribute_to_layer_input (bool, optional): Take the layer's input instead
                of its output. Default: False
            relu_attributions (bool, optional): Set negative values to zero.
                Default: True
            baselines (Tensor, int, float or tuple, optional): Not used.
            internal_batch_size (int, optional): Not used: the model runs once.
            show_progress (bool, optional): Not used.

        Returns:
            **attributions** `(N, 1, *spatial)` of the layer's size, detached; a list
            for a list of layers, a tuple for a layer that gives a tuple.

        Raises:
            TypeError: If the inputs are no tensors.
            ValueError: If the layer does not run, or has no spatial output.
        """
        batch = check_inputs(inputs, None, self.forward_func)

        def attribute(layer: nn.Module) -> Attributions:
            with torch.no_grad():
                outputs, _ = evaluate_layer(
                    self.forward_func,
                    layer,
                    batch.inputs,
                    additional_forward_args,
                    self.device_ids,
                    attribute_to_layer_input,
                )
                maps = tuple(
                    self._map(_checked(reshaped(self.reshape_transform, x)))
                    for x in outputs
                )
            if relu_attributions:
                maps = tuple(map(self._rectified, maps))
            return cast(Attributions, format_output(len(maps) > 1, maps))

        return self._each_layer(attribute)

    @abstractmethod
    def _map(self, activations: Tensor) -> Tensor:
        """Returns `(N, 1, *spatial)` from the layer's output `(N, K, *spatial)`."""

    def _rectified(self, maps: Tensor) -> Tensor:
        return maps.relu()


def _checked(activations: Tensor) -> Tensor:
    if activations.dim() < 3:
        raise ValueError(
            "layer must have a spatial output (N, K, ...), got the shape "
            f"{tuple(activations.shape)}. Choose a convolutional layer, or pass "
            "reshape_transform."
        )
    return at_least_single(activations)


class RandomMap(_Control):
    r"""Random map: uniform noise in [0, 1) at every place of the layer.

    Args:
        forward_func (Callable): The model.
        layer (torch.nn.Module): The layer whose size the map has.
        device_ids (list[int], optional): See :class:`LayerScoreCAM`. Default: None
        score (str or Callable, optional): Not used.
        reshape_transform (Callable, optional): See :class:`LayerScoreCAM`.
        generator (torch.Generator, optional): Where the noise comes from.
            Default: None, torch's global random state on the CPU

    Examples::

        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
        >>> RandomMap(model, model[0]).attribute(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 1, 6, 6])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        *,
        score: Score = "softmax",
        reshape_transform: ReshapeTransform | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            forward_func,
            layer,
            device_ids,
            score=score,
            reshape_transform=reshape_transform,
        )
        self.generator = generator

    def _map(self, activations: Tensor) -> Tensor:
        shape = (len(activations), 1, *activations.shape[2:])
        source = self.generator.device if self.generator else torch.device("cpu")
        drawn = torch.rand(shape, generator=self.generator, device=source)
        return drawn.to(activations)


class CenterMap(_Control):
    r"""Centre map: a Gaussian in the middle, where photographers put the object.

    .. math:: \exp\Big(-\tfrac12 \sum_d \Big(\frac{p_d - c_d}{n_d / 4}\Big)^2\Big)

    with `n_d` places along dimension d and `c_d` their middle.

    Args:
        forward_func (Callable): The model.
        layer (torch.nn.Module): The layer whose size the map has.
        device_ids (list[int], optional): See :class:`LayerScoreCAM`. Default: None
        score (str or Callable, optional): Not used.
        reshape_transform (Callable, optional): See :class:`LayerScoreCAM`.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 2))
        >>> attributions = CenterMap(model, model[0]).attribute(torch.rand(1, 3, 5, 5))
        >>> attributions.argmax().item(), attributions.max().item()
        (4, 1.0)
    """

    def _map(self, activations: Tensor) -> Tensor:
        exponent = activations.new_zeros(1, 1, *activations.shape[2:])
        for dim in range(2, activations.dim()):
            count = activations.shape[dim]
            place = torch.arange(count, device=activations.device).to(activations)
            place = place - (count - 1) / 2
            line = [-1 if d == dim else 1 for d in range(activations.dim())]
            exponent = exponent - 0.5 * (place / (count / 4)).square().view(line)
        repeats = [len(activations)] + [1] * (activations.dim() - 1)
        return exponent.exp().repeat(repeats)


class ChannelMean(_Control):
    r"""Channel mean: what the layer does, whatever the class.

    .. math:: \frac{1}{K} \sum_k A_k

    It is what a method becomes whose channel weights are all equal.

    Args:
        forward_func (Callable): The model.
        layer (torch.nn.Module): The layer.
        device_ids (list[int], optional): See :class:`LayerScoreCAM`. Default: None
        score (str or Callable, optional): Not used.
        reshape_transform (Callable, optional): See :class:`LayerScoreCAM`.

    Examples::

        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> image = torch.rand(1, 3, 8, 8)
        >>> attributions = ChannelMean(model, model[1]).attribute(image)
        >>> torch.equal(attributions, model(image).mean(1, keepdim=True))
        True
    """

    def _map(self, activations: Tensor) -> Tensor:
        return activations.mean(1, keepdim=True)

    def _rectified(self, maps: Tensor) -> Tensor:
        return warn_of_zero_maps(
            maps.relu(),
            "no value of it is above 0. relu_attributions=False shows those below.",
        )


random_map = RandomMap
center_map = CenterMap
channel_mean = ChannelMean
