"""Captum's `IntegratedGradients` with the checks of the package's own methods."""

from __future__ import annotations

import re

from captum.attr import IntegratedGradients
from torch import Tensor, nn

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.target import Target
from captum_iscam.attr._captum_inputs import checked_model
from captum_iscam.attr._error import warn_of_overflow
from captum_iscam.attr._gradients import gradient_batch
from captum_iscam.attr._layer import inference_named


class CheckedIntegratedGradients:
    """Integrated Gradients of :class:`captum.attr.IntegratedGradients`.

    It is there for tables that compare methods by name, and not public.

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
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int = 16,
    ) -> Tensor:
        """Returns the attributions of each value of the inputs, of the inputs' shape.

        Args:
            inputs (Tensor): Inputs `(N, C, *spatial)`, floating point.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. Default: None
            baselines (Tensor, int, float or tuple, optional): `b`, where the path
                begins: a number, or a tensor like the input or with one example; a
                tuple has one entry for each input. For normalised images 0 is the mean
                colour. Default: None, that is 0
            n_steps (int, optional): Number of points on the path. Default: 50
            method (str, optional): The rule, by Captum's name. Default: "gausslegendre"
            internal_batch_size (int, optional): Inputs per forward pass; at least one
                for each example. Captum alone keeps all points in memory at once.
                Default: 16
        """
        batch = gradient_batch(inputs, baselines, self._forward_func)
        model = checked_model(self._forward_func, batch, target, internal_batch_size)
        (x,), (b,) = batch.inputs, batch.baselines
        try:
            with inference_named():
                attributions: Tensor = IntegratedGradients(model).attribute(
                    x,
                    baselines=b,
                    target=target,
                    n_steps=n_steps,
                    method=method,
                    internal_batch_size=internal_batch_size,
                )
        except RuntimeError as error:
            # Autograd's words for it, of which neither names the model.
            if not re.search("used in the graph|does not require grad", str(error)):
                raise
            raise ValueError(
                "forward_func must lead from the inputs to the score by gradients, got "
                "a model with code without gradients between them, such as quantised "
                "layers. Choose a method that needs none, such as occlusion or RISE."
            ) from error
        return warn_of_overflow(attributions)
