"""Grad-CAM for layers that give tokens, which Captum's `LayerGradCam` cannot read."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import Attributions, warn_of_zero_maps
from captum_iscam.attr._gradients import LayerGradientMethod
from captum_iscam.attr.grad_cam_plus_plus import IdentityPerturbation


class TokenGradCAM(LayerGradientMethod):
    """Captum's Grad-CAM, with a `reshape_transform`.

    For layers that need none it gives what `captum.attr.LayerGradCam` does. It is there
    for tables that hold Grad-CAM beside other methods on transformers, and not public.
    """

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
    ) -> Attributions | list[Attributions]:
        """Returns the Grad-CAM map of each example, as `LayerGradCam` does.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): As in Captum.
            target (int, tuple, Tensor or list, optional): As in Captum, or `T` classes
                for each example, `(N, T)`, for one forward and `T` backward passes.
            additional_forward_args (Any, optional): As in Captum.
            attribute_to_layer_input (bool, optional): As in Captum. Default: False
            relu_attributions (bool, optional): As in Captum. Default: False

        Returns:
            **attributions** `(N, 1, *spatial)`, or `(N, T, *spatial)`, at the layer's
            size, detached.
        """
        batch = self._batch(inputs)
        return self._attribute(
            batch,
            _GradCAM(batch, "", relu_attributions),
            target,
            additional_forward_args,
            attribute_to_layer_input,
            None,
        )


def warn_of_no_support(maps: Tensor) -> Tensor:
    """Returns rectified maps, and warns of those that are zero."""
    return warn_of_zero_maps(
        maps,
        "no position of it supports the target. Without the ReLU it shows what "
        "opposes it.",
    )


class _GradCAM(IdentityPerturbation):
    def accumulator(self, activations: Tensor) -> _Pooled:
        return _Pooled(activations)

    def finish(self, maps: Tensor) -> Tensor:
        return warn_of_no_support(maps.relu()) if self._relu else maps


class _Pooled:
    """The map `sum_k GAP(g_k) A_k` of each example."""

    def __init__(self, activations: Tensor) -> None:
        shape = (activations.shape[0], 1, *activations.shape[2:])
        self._maps = activations.new_zeros(shape)

    def add(self, index: int, rows: slice, grads: Tensor, values: Tensor) -> None:
        pooled = grads.mean(tuple(range(2, grads.dim())), keepdim=True)
        self._maps[rows].add_((pooled * values).sum(1, keepdim=True))

    def maps(self) -> Tensor:
        return self._maps
