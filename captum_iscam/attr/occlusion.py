"""Captum's `Occlusion` with a window that follows the size of the input."""

from __future__ import annotations

from captum.attr import Occlusion
from torch import Tensor, nn

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.target import Target


class WindowOcclusion:
    """Occlusion: how much the score falls where a square hides the input.

    :class:`captum.attr.Occlusion` wants the window in pixels; here it is a share of
    each side, so that one setting suits inputs of all sizes.

    Args:
        forward_func (torch.nn.Module): The model.
    """

    def __init__(self, forward_func: nn.Module) -> None:
        self._occlusion = Occlusion(forward_func)

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
        """Returns the fall of the score at each place, of the inputs' shape.

        Args:
            inputs (Tensor): Inputs `(N, C, *spatial)`; the window hides all channels.
            target (int, tuple, Tensor or list, optional): Captum's target.
            baselines (Tensor, int, float or tuple, optional): What the window shows.
                Default: None, that is 0
            window (float, optional): Side of the window, a share of the input's.
            stride (float, optional): How far it moves, a share of the input's side.
            internal_batch_size (int, optional): Inputs per forward pass, or one for
                each example where that is more. Default: 16
            show_progress (bool, optional): Show a bar on standard error.
        """
        channels, *sides = inputs.shape[1:]
        sizes = (channels, *(max(1, round(window * side)) for side in sides))
        steps = (channels, *(max(1, round(stride * side)) for side in sides))
        attributions: Tensor = self._occlusion.attribute(
            inputs,
            sizes,
            strides=steps,
            baselines=baselines,
            target=target,
            perturbations_per_eval=max(1, internal_batch_size // len(inputs)),
            show_progress=show_progress,
        )
        return attributions
