"""Grad-CAM with the checks of all gradient methods, for tables that compare methods."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import Attributions, warn_of_zero_maps
from captum_iscam.attr._gradients import LayerGradientMethod
from captum_iscam.attr._weightings import WEIGHTINGS


class GradCAM(LayerGradientMethod):
    """Grad-CAM: the map of Captum's `LayerGradCam`, also for layers that give tokens.

    It is there for tables that compare Grad-CAM with other methods, and not public.
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
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, with one or
                three spatial dimensions, or `(N, features)`, floating point.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. An integer tensor or nested
                list `(N, T)`, or one row `(1, T)` for all examples, explains T classes
                of each example, with T backward passes for each forward pass.
                Default: None
            additional_forward_args (Any, optional): Further arguments of the model, one
                or a tuple. A tensor whose first dimension is `N` follows its example,
                in a list, tuple or dict too; everything else is passed on unchanged.
                Default: None
            attribute_to_layer_input (bool, optional): Explain the layer's input instead
                of its output. Default: False
            relu_attributions (bool, optional): Set negative values of the map to 0.
                Default: False

        Returns:
            **attributions** `(N, 1, *spatial)`, or `(N, T, *spatial)`, at the layer's
            size, detached.
        """
        return self._weighted(
            "grad-cam",
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            relu_attributions,
            None,
        )


def warn_of_no_support(maps: Tensor) -> Tensor:
    """Returns rectified maps, and warns of those that are zero."""
    return warn_of_zero_maps(maps, WEIGHTINGS["grad-cam"].zero)
