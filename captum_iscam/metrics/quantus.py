"""The way into Quantus, without importing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from captum_iscam.metrics._maps import check_maps, fit

Array = npt.NDArray[np.float32]


def quantus_explain_func(
    build: Callable[[nn.Module], Any], **arguments: Any
) -> Callable[..., Array]:
    r"""Returns an `explain_func` for Quantus: batched, and of the inputs' size.

    Quantus (A. Hedström et al., "Quantus: An Explainable AI Toolkit for Responsible
    Evaluation of Neural Network Explanations and Beyond", JMLR 2023,
    https://arxiv.org/abs/2202.06861) hands a model, a batch and its targets to a
    function and expects an array. Some of its metrics hand over changed copies of the
    model; so the method is built anew in every call, on the model at hand.

    The maps are brought to the inputs' size by linear interpolation
    (align_corners=False) and not normalised.

    Args:
        build (Callable): Makes the method from the model, for example
            `lambda model: LayerScoreCAM(model, model.features)`.
        **arguments (Any): Further arguments of `attribute`.

    Returns:
        A function `(model, inputs, targets, **kwargs)` that returns a float32 array
        `(N, 1, H, W)`. `inputs` and `targets` may be arrays or tensors and are moved
        to the model's device; what else Quantus passes is not used.

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
        array: Array = fit(maps, batch.shape[2:]).float().cpu().numpy()
        return array

    return explain_func
