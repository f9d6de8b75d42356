"""An `explain_func` for Quantus, without importing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from captum_iscam.metrics._maps import check_maps, resize

Array = npt.NDArray[np.float32]


def quantus_explain_func(
    build: Callable[[nn.Module], Any], **arguments: Any
) -> Callable[..., Array]:
    r"""Returns an `explain_func` for Quantus from a method of this package.

    Quantus (A. Hedström et al., "Quantus: An Explainable AI Toolkit for Responsible
    Evaluation of Neural Network Explanations and Beyond", JMLR 2023,
    https://arxiv.org/abs/2202.06861) passes a model, a batch and its targets to a
    function and expects an array. Some of its metrics pass changed copies of the model,
    so the method is built again in every call, on the model that is passed.

    The maps are computed in one batch and resized to the inputs' size by linear
    interpolation (align_corners=False). They are not normalised. This package does not
    import Quantus.

    Args:
        build (Callable): Makes the attribution method from a model, for example
            `lambda model: LayerScoreCAM(model, model.features)`. Its result needs a
            method `attribute(inputs, target=...)`.
        **arguments (Any): Keyword arguments of `attribute`, passed in every call, for
            example `n_steps=10`.

    Returns:
        *Callable*: a function `(model, inputs, targets, **kwargs)` that returns a
        float32 array `(N, 1, H, W)`. `inputs` and `targets` may be arrays or tensors,
        and are moved to the model's device. Other keyword arguments that Quantus passes
        are ignored.

    Raises:
        TypeError: In a call, if the method does not return floating point maps.
        ValueError: In a call, if the maps are not `(N, 1, *spatial)`, or larger than
            the inputs.

    Examples::

        >>> class Brightness:
        ...     def __init__(self, model):
        ...         self.model = model
        ...     def attribute(self, inputs, target):
        ...         return inputs.mean(1, keepdim=True)[..., ::2, ::2]
        >>> explain = quantus_explain_func(Brightness)
        >>> explain(nn.Flatten(), np.zeros((2, 3, 8, 6)), np.array([0, 1])).shape
        (2, 1, 8, 6)
    """

    def explain_func(
        model: nn.Module, inputs: Any, targets: Any, **kwargs: Any
    ) -> Array:
        parameter = next(model.parameters(), torch.empty(0, device="cpu"))
        device = parameter.device
        batch = torch.as_tensor(inputs, device=device, dtype=parameter.dtype)
        target = torch.as_tensor(targets, device=device)
        maps = check_maps(build(model).attribute(batch, target=target, **arguments))
        array: Array = resize(maps, batch.shape[2:]).float().cpu().numpy()
        return array

    return explain_func
