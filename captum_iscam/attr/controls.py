"""Controls: maps that do not depend on the class, called like a method.

A comparison needs them. A method no better than a random map explains nothing. A method
no better than the channel mean shows the layer, not the class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import (
    format_additional_forward_args,
    format_output,
    log_usage,
)
from captum_iscam._utils.forward import Baselines, at_least_single
from captum_iscam._utils.inputs import Batch, batch_axis_named, check_inputs
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import keeping_buffers
from captum_iscam.attr._base import (
    Attributions,
    NamedLayerAttribution,
    rectified,
)
from captum_iscam.attr._layer import (
    check_layer,
    check_outputs,
    check_rows,
    eager,
    evaluate_layer,
    require_floating_maps,
    reshaped,
)
from captum_iscam.attr._layout import warn_of_axes
from captum_iscam.reshape_transforms import ReshapeTransform


class _Control(NamedLayerAttribution, ABC):
    """What all controls share: they use the layer's output and nothing else."""

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
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, or with one or
                three spatial dimensions, floating point.
            target (int, tuple, Tensor or list, optional): Not used, but accepted so
                that a control is called like a method. Default: None
            additional_forward_args (Any, optional): Further arguments of the model, one
                or a tuple. A tensor whose first dimension is `N` follows its example,
                in a list, tuple or dict too; everything else is passed on unchanged.
                Default: None
            attribute_to_layer_input (bool, optional): Use the layer's input instead of
                its output. Default: False
            relu_attributions (bool, optional): Set negative values of the map to 0.
                Default: True
            baselines (Tensor, int, float or tuple, optional): Not used, but accepted so
                that a control is called like a method. Default: None
            internal_batch_size (int, optional): Not used, but accepted so that a
                control is called like a method. The model runs once, on all inputs.
                Default: None
            show_progress (bool, optional): Not used, but accepted so that a control is
                called like a method. Default: False

        Returns:
            **attributions** `(N, 1, *spatial)` of the layer's size, detached; a list
            for a list of layers, a tuple for a layer that gives a tuple.

        Raises:
            TypeError: If the inputs are no tensors.
            ValueError: If the layer does not run, or has no spatial output.
        """
        batch = check_inputs(inputs, None, self.forward_func)
        forward_func = keeping_buffers(self.forward_func, by_flag=False)
        additional = format_additional_forward_args(additional_forward_args)

        def attribute(layer: nn.Module) -> Attributions:
            with (
                torch.no_grad(),
                batch_axis_named(
                    eager(forward_func), batch.inputs, additional
                ) as taken,
            ):
                outputs, _ = evaluate_layer(
                    forward_func,
                    layer,
                    batch.inputs,
                    additional_forward_args,
                    self.device_ids,
                    attribute_to_layer_input,
                )
                shaped = check_outputs(
                    [reshaped(self.reshape_transform, x) for x in outputs]
                )
                checked = [_checked(x, batch) for x in shaped]
            warn_of_axes(
                taken,
                batch.inputs,
                zip(outputs, checked, strict=True),
                layer,
                self.reshape_transform,
                attribute_to_layer_input,
            )
            with torch.no_grad():
                maps = tuple(map(self._map, checked))
            maps = tuple(self._rectified(x, relu_attributions) for x in maps)
            return cast(Attributions, format_output(len(maps) > 1, maps))

        return self._each_layer(attribute)

    @abstractmethod
    def _map(self, activations: Tensor) -> Tensor:
        """Returns `(N, 1, *spatial)` from the layer's output `(N, K, *spatial)`."""

    def _rectified(self, maps: Tensor, relu: bool) -> Tensor:
        return maps.relu() if relu else maps


def _checked(activations: Tensor, batch: Batch) -> Tensor:
    if activations.dim() < 3:
        raise ValueError(
            "layer must have a spatial output (N, K, ...), got the shape "
            f"{tuple(activations.shape)}. Choose a convolutional layer, or pass "
            "reshape_transform."
        )
    check_rows(activations, batch.num_examples)
    require_floating_maps(activations)
    return at_least_single(activations)


class RandomMap(_Control):
    r"""Random map: uniform noise in [0, 1) at every position of the layer.

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
        score (str or Callable, optional): Not used, but accepted so that a control is
            built like a method. Default: "softmax"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. Default: None
        generator (torch.Generator, optional): Source of the noise, on any device. None
            takes torch's global CPU generator, so that a seed gives one map on every
            device. Default: None

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
        drawn = torch.rand(
            shape, generator=self.generator, device=source, dtype=torch.float32
        )
        return drawn.to(activations)


class CenterMap(_Control):
    r"""Centre map: a Gaussian in the middle, where photographers put the object.

    .. math:: \exp\Big(-\tfrac12 \sum_d \Big(\frac{p_d - c_d}{n_d / 4}\Big)^2\Big)

    with `n_d` positions along dimension d and `c_d` their middle.

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
        score (str or Callable, optional): Not used, but accepted so that a control is
            built like a method. Default: "softmax"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. Default: None

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
            offset = torch.arange(count, device=activations.device).to(activations)
            offset = offset - (count - 1) / 2
            line = [-1 if d == dim else 1 for d in range(activations.dim())]
            exponent = exponent - 0.5 * (offset / (count / 4)).square().view(line)
        repeats = [len(activations)] + [1] * (activations.dim() - 1)
        return exponent.exp().repeat(repeats)


class ChannelMean(_Control):
    r"""Channel mean: the mean activation of the layer, whatever the class.

    .. math:: \frac{1}{K} \sum_k A_k

    It is the map of a method whose channel weights are all equal.

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
        score (str or Callable, optional): Not used, but accepted so that a control is
            built like a method. Default: "softmax"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. Default: None

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

    def _rectified(self, maps: Tensor, relu: bool) -> Tensor:
        return rectified(
            maps,
            relu,
            "no value of it is above 0. relu_attributions=False shows those below.",
        )


random_map = RandomMap
center_map = CenterMap
channel_mean = ChannelMean
