"""Finer-CAM by name: Grad-CAM of the contrast with the most similar classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.further_arguments import copied
from captum_iscam._utils.inputs import batch_axis_named
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import restoring_buffers
from captum_iscam.attr._gradients import gradient_batch
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.reshape_transforms import ReshapeTransform
from captum_iscam.targets import contrast, similar_classes


class FinerCAM:
    """Finer-CAM: the Grad-CAM map of what sets a class apart from similar ones.

    The score is that of :func:`captum_iscam.targets.contrast`, which any method can
    explain; this class is there for tables that compare it by name, and not public. A
    model of one output has no similar class, and gets its Grad-CAM map.

    Args:
        forward_func (torch.nn.Module): A model with logits `(N, classes)`.
        layer (torch.nn.Module): The layer to explain.
        reshape_transform (Callable, optional): Makes maps of tokens. Default: None
    """

    takes_several_targets = True

    def __init__(
        self,
        forward_func: nn.Module,
        layer: nn.Module,
        reshape_transform: ReshapeTransform | None = None,
    ) -> None:
        self._model = forward_func
        self._layer = layer
        self._reshape_transform = reshape_transform

    def attribute(
        self,
        inputs: Tensor,
        target: Target = None,
        *,
        similar: int = 3,
        strength: float = 1.0,
        relu_attributions: bool = True,
    ) -> Tensor:
        """Returns the Grad-CAM map of the contrast.

        Args:
            inputs (Tensor): Inputs `(N, C, *spatial)`, floating point.
            target (int, Tensor or list, optional): The class to explain: one index for
                all examples, one per example, or `(N, T)` for T of each. None for a
                model with one number per example. Tuples, the indices of outputs of
                more dimensions, name no class to compare, and are an error.
                Default: None
            similar (int, optional): Number of classes to compare with, those whose
                logits for the unmasked input are nearest; all others, if the model has
                fewer. Default: 3, as in the authors' code
            strength (float, optional): `gamma` of the contrast, at least 0. Default:
                1.0, as in the authors' code
            relu_attributions (bool, optional): Set negative values of the map to 0.
                Default: True
        """
        score: Callable[..., Tensor] = self._model
        references = None
        batch = gradient_batch(inputs, None, self._model)
        with (
            torch.no_grad(),
            restoring_buffers(self._model),
            batch_axis_named(self._model, batch.inputs, None),
        ):
            logits = self._model(*map(copied, batch.inputs))
        if logits[0].numel() > 1:
            references = similar_classes(logits, min(similar, logits.shape[1] - 1))
            score = contrast(self._model, strength=strength)
        explain = GradCAM(score, self._layer, reshape_transform=self._reshape_transform)
        maps = explain.attribute(
            inputs, target, references, relu_attributions=relu_attributions
        )
        return cast(Tensor, maps)
