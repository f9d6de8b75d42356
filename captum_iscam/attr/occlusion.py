"""Captum's `Occlusion` with a window that follows the size of the input."""

from __future__ import annotations

from captum.attr import Occlusion
from torch import Tensor, nn

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.inputs import check_inputs, require_positions
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import require_flags, require_floating
from captum_iscam.attr._captum_inputs import checked_model
from captum_iscam.attr._error import warn_of_overflow


class WindowOcclusion:
    """Occlusion: the decrease of the score where a square hides the input.

    :class:`captum.attr.Occlusion` wants the window in pixels; here it is a share of
    each side, so that one setting suits inputs of all sizes.

    Args:
        forward_func (torch.nn.Module): The model. It is called with `inputs` and
            returns a tensor with one row per example.
    """

    def __init__(self, forward_func: nn.Module) -> None:
        self._forward_func = forward_func

    def attribute(
        self,
        inputs: Tensor,
        target: Target = None,
        *,
        baselines: Baselines = None,
        window: float = 1 / 8,
        stride: float = 1 / 16,
        internal_batch_size: int = 16,
        show_progress: bool = False,
    ) -> Tensor:
        """Returns the decrease of the score at each pixel, of the inputs' shape.

        Args:
            inputs (Tensor): Inputs `(N, C, *spatial)`, floating point; the window hides
                all channels.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. Default: None
            baselines (Tensor, int, float or tuple, optional): `b`, the value of masked
                pixels: a number, or a tensor like the input or with one example; a
                tuple has one entry for each input. For normalised images 0 is the mean
                colour. Default: None, that is 0
            window (float, optional): Side of the window, as a share of the input's
                side. Default: 0.125
            stride (float, optional): Distance between neighbouring windows, as a share
                of the input's side. Default: 0.0625
            internal_batch_size (int, optional): Masked inputs per forward pass; at
                least one for each example. Default: 16
            show_progress (bool, optional): Show a progress bar on standard error.
                Default: False
        """
        require_flags(show_progress=show_progress)
        batch = check_inputs(inputs, baselines, self._forward_func)
        require_positions(batch.inputs)
        (x,), (b,) = batch.inputs, batch.baselines
        require_floating("inputs", x, "Convert them with inputs.float().")
        model = checked_model(self._forward_func, batch, target, internal_batch_size)
        channels, *sides = x.shape[1:]
        sizes = (channels, *(max(1, round(window * side)) for side in sides))
        steps = (channels, *(max(1, round(stride * side)) for side in sides))
        attributions: Tensor = Occlusion(model).attribute(
            x,
            sizes,
            strides=steps,
            baselines=b,
            target=target,
            perturbations_per_eval=max(1, internal_batch_size // len(x)),
            show_progress=show_progress,
        )
        return warn_of_overflow(attributions)
