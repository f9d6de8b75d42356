"""Coherency and ADCC: does a method explain what its own map shows by the same map?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score
from captum_iscam._utils.target import Target
from captum_iscam.metrics._base import (
    ExplanationFunc,
    Inputs,
    MetricInputs,
    check_batch_and_maps,
    explain,
    metric,
)
from captum_iscam.metrics._maps import Attributions, correlation, finite, only_finite
from captum_iscam.metrics.complexity import complexity
from captum_iscam.metrics.faithfulness import (
    apply_mask,
    before_and_after,
    explanation_mask,
    relative_drop,
)


@metric(higher_is_better=True, unit="share")
def coherency(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    baselines: Baselines = None,
) -> Tensor:
    r"""Coherency: whether what the map shows is explained by the same map.

    .. math::
        \frac{1 + \rho\big(L(x),\, L(b + M \odot (x - b))\big)}{2}

    `L(x)` is the map of the example, `L(.)` that of its explanation map, `ρ` Pearson's
    correlation of both at the layer's size; `M` as in :func:`average_drop`. If one of
    the two maps is constant the value is 0: it agrees with nothing.

    The source is that of :func:`complexity` (https://arxiv.org/abs/2104.10252). The
    rescaling from [-1, 1] is that of the authors' code.

    Args:
        explanation_func (Callable): The method: called as `explanation_func(inputs,
            target=...)`, with `additional_forward_args` where there are any; gives
            maps like `attributions`, as `LayerScoreCAM(model, layer).attribute` does.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`.
        attributions (Tensor): What the method gave for the inputs, `(N, 1, h, w)`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        baselines (Tensor, int, float or tuple, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)`: share in [0, 1], higher is better, NaN where a map holds NaN
        or infinity.

    Raises:
        ValueError: If shapes do not fit, or the method gives maps of another size.
        TypeError: If inputs or maps are no floating point tensors.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return inputs.sum(1, keepdim=True)
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> coherency(method, image, method(image, target=None))
        tensor([1.])
    """
    batch, maps, positions = check_batch_and_maps(inputs, attributions, baselines)
    valid = finite(maps)
    # The method may refuse NaN, so such a map shows it nothing.
    safe = torch.where(valid.view(-1, *[1] * (maps.dim() - 1)), maps, 0)
    shown = list(batch.inputs)
    for i in positions:
        masks = explanation_mask(safe, tuple(shown[i].shape[2:]), None, False)
        shown[i] = apply_mask(shown[i], batch.baselines[i], masks)
    masked = tuple(shown) if isinstance(inputs, tuple) else shown[0]
    again = explain(explanation_func, masked, target, additional_forward_args)
    if again.shape != maps.shape:
        raise ValueError(
            f"explanation_func must give maps of the shape {tuple(maps.shape)} of "
            f"attributions, got {tuple(again.shape)}. Pass the maps as it gave them."
        )
    varies = [(m.flatten(1) != m.flatten(1)[:, :1]).any(1) for m in (maps, again)]
    value = (1 + correlation(maps, again)) / 2
    value = torch.where(varies[0] & varies[1], value, 0)
    return only_finite(value, valid & finite(again))


@metric(higher_is_better=True, unit="share")
def adcc(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    explanation_func: ExplanationFunc,
    score: Score = "softmax",
    baselines: Baselines = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ADCC: average drop, coherency and complexity in one number.

    .. math::
        3 \left( \frac{1}{\text{coherency}} + \frac{1}{1 - \text{complexity}}
        + \frac{1}{1 - \text{drop}} \right)^{-1}

    the harmonic mean of :func:`coherency`, of 1 minus :func:`complexity` at the input's
    size and of 1 minus the relative drop (:func:`average_drop` divided by 100) of one
    example. Where one of the three is 0, so is the value. Where the example's score is
    0 the drop is undefined, and so is the value, unless the coherency is 0: then the
    value is 0 whatever the drop.

    The source is that of :func:`complexity` (https://arxiv.org/abs/2104.10252), whose
    code takes the harmonic mean per example, as here.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`; the complexity
            is measured at the size of the first that is masked.
        attributions (Tensor): See :func:`coherency`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        explanation_func (Callable): See :func:`coherency`.
        score (str or Callable, optional): See :func:`average_drop`.
        baselines (Tensor, int, float or tuple, optional): See :func:`average_drop`.
        internal_batch_size (int, optional): Inputs per forward pass for the drop; the
            method is called once, with all examples. Default: None

    Returns:
        *Tensor* `(N,)`: share in [0, 1], higher is better, NaN where a map holds NaN
        or infinity, and where the score of the example is 0 and the coherency is not.

    Raises:
        ValueError: As in :func:`average_drop` and :func:`coherency`.
        TypeError: As in :func:`average_drop`.
        AssertionError: As in :func:`average_drop`.
        RuntimeError: As in :func:`average_drop`.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return inputs.sum(1, keepdim=True)
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> maps = method(image, target=None)
        >>> adcc(model, image, maps, explanation_func=method, score="identity")
        tensor([0.7500])
    """
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    drop = relative_drop(*before_and_after(given, None, False)).clamp_max(1)
    coherent = coherency(
        explanation_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        baselines=baselines,
    )
    covered = complexity(given.maps, size=given.masked[0].shape[2:])
    parts = torch.stack([coherent, 1 - covered, 1 - drop])
    # 1 / 0 is infinite, and the mean then 0, as it should be.
    mean = 3 / (1 / parts).sum(0)
    return torch.where(coherent == 0, 0, mean)  # beside an undefined drop as well
