"""Sanity checks: does the map depend on the model, and on the class asked for?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam._utils.interpolate import scale
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import check_generator
from captum_iscam.metrics._base import (
    ExplanationFunc,
    Inputs,
    check_batch_and_maps,
    explain,
    explain_both,
    home_of,
    metric,
)
from captum_iscam.metrics._maps import (
    finite,
    fit,
    only_finite,
    rank_correlation,
    structural_similarity,
)


class Randomization(NamedTuple):
    """How alike the maps of the trained and of a randomised model are.

    Attributes:
        layers (list[str]): The `R` layers in the order they were randomised.
        rank_correlation (Tensor): Spearman's, `(R, N)`, in [-1, 1].
        ssim (Tensor): Structural similarity, `(R, N)`, in [-1, 1].

    Examples::

        >>> import torch
        >>> found = Randomization(["head"], torch.ones(1, 2), torch.ones(1, 2))
        >>> found.layers, found.rank_correlation.mean(1)
        (['head'], tensor([1.]))
    """

    layers: list[str]
    rank_correlation: Tensor
    ssim: Tensor


@metric(higher_is_better=False, unit="correlation")
def parameter_randomization(
    explanation_func: ExplanationFunc,
    model: nn.Module,
    inputs: Inputs,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    mode: str = "cascading",
    layers: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> Randomization:
    r"""Model parameter randomisation test: a map must change with the weights.

    Layer by layer, from the output down, the parameters are drawn anew, and the map of
    the randomised model is compared with that of the trained one. A map that stays as
    it is does not depend on what the model has learned.

    J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt, B. Kim, "Sanity Checks
    for Saliency Maps", NeurIPS 2018, https://arxiv.org/abs/1810.03292. The authors run
    each layer's initialisation again; here each parameter is drawn from the normal
    distribution of its own mean and standard deviation. That needs no knowledge of the
    layer and keeps the size of the activations, so that a map changes because of what
    the weights say and not because the signal dies out. Buffers, such as the running
    statistics of a batch normalisation, stay.

    The maps are compared at the size of the first input they fit, brought there by
    linear interpolation (align_corners=False); for the SSIM (11 pixels wide, Gaussian
    of sigma 1.5) they are min-max scaled to [0, 1]. Two equal maps have 1 in both;
    otherwise a constant map has the rank correlation 0.

    The model is changed in place and restored bit for bit, after an exception too.

    Args:
        explanation_func (Callable): The method on this very model: see
            :func:`coherency`.
        model (torch.nn.Module): The model whose parameters are randomised.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        mode (str, optional): "cascading" leaves the layers randomised so far as they
            are, "independent" restores them first. Default: "cascading"
        layers (sequence of str, optional): Names of the modules to randomise, in this
            order, each with its parameters and those below it. Default: None, all
            modules with parameters of their own, the last defined first
        generator (torch.Generator, optional): Where the parameters come from.
            Default: None, torch's global random state on the CPU

    Returns:
        :class:`Randomization`; lower is better. NaN where a map holds NaN or infinity.

    Raises:
        ValueError: If `mode` or a name in `layers` is unknown, or a module has no
            parameters.
        TypeError: If the method gives no floating point maps.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3))
        >>> def method(inputs, target):
        ...     return model(inputs)[:, target : target + 1].detach()
        >>> result = parameter_randomization(
        ...     method, model, torch.rand(3, 1, 16, 16), target=0
        ... )
        >>> result.layers, result.ssim.shape
        (['1', '0'], torch.Size([2, 3]))
    """
    names = _layer_names(model, layers)
    check_generator(generator)
    if mode not in ("cascading", "independent"):
        raise ValueError(
            f'mode must be "cascading" or "independent", got {mode!r}. '
            "The first randomises layer upon layer, the second one at a time."
        )
    trained = explain(explanation_func, inputs, target, additional_forward_args)
    batch, _, positions = check_batch_and_maps(inputs, trained, None)
    size = batch.inputs[positions[0]].shape[2:]
    found: list[tuple[Tensor, Tensor]] = []

    def compare() -> None:
        maps = explain(explanation_func, inputs, target, additional_forward_args)
        found.append(_alike(trained, maps, size))

    if mode == "cascading":
        with _restored(model):
            for name in names:
                _randomise(model.get_submodule(name), generator)
                compare()
    else:
        for name in names:
            with _restored(model):
                _randomise(model.get_submodule(name), generator)
                compare()
    correlations, similarities = zip(*found, strict=True)
    return Randomization(names, torch.stack(correlations), torch.stack(similarities))


@metric(higher_is_better=True, unit="correlation distance")
def target_sensitivity(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    other_target: Target,
) -> Tensor:
    r"""Target sensitivity: how much the maps of two classes differ.

    .. math:: 1 - \rho\big(L(x; c),\, L(x; c')\big)

    with Spearman's rank correlation at the layer's size. A map that does not depend on
    the class has 0. Two equal maps have 0 too if they are constant; if one of two
    different maps is constant the value is 1.

    After the random logit test of L. Sixt, M. Granz, T. Landgraf, "When Explanations
    Lie: Why Many Modified BP Attributions Fail", ICML 2020,
    https://arxiv.org/abs/1912.09818, which compares by SSIM.

    Args:
        explanation_func (Callable): See :func:`coherency`. Where it, or the object
            whose method it is, has an attribute `takes_several_targets = True`, it is
            called once, with a target `(N, 2)`, and must give maps `(N, 2, ...)`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): `c`, see :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        other_target (int, tuple, Tensor or list): `c'`, in the forms of `target`.

    Returns:
        *Tensor* `(N,)`: distance in [0, 2], higher is better, NaN where a map holds NaN
        or infinity.

    Raises:
        ValueError: If the method gives maps of a wrong shape.
        TypeError: If the method gives no floating point maps.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return inputs[:, target : target + 1]
        >>> x = torch.arange(4.0).view(1, 1, 2, 2)
        >>> image = torch.cat([x, -x], dim=1)
        >>> target_sensitivity(method, image, 0, other_target=1)
        tensor([2.])
    """
    maps, others = explain_both(
        explanation_func, inputs, (target, other_target), additional_forward_args
    )
    both = finite(maps) & finite(others)
    return only_finite(1 - rank_correlation(maps, others), both)


def _layer_names(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    if layers is None:
        own = [
            name
            for name, module in model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        names = own[::-1]
    else:
        names = list(layers)
    known = dict(model.named_modules())
    for name in names:
        if name not in known or next(known[name].parameters(), None) is None:
            raise ValueError(
                f"layers must name modules with parameters, got {name!r}. "
                "The names are those of model.named_modules()."
            )
    if not names:
        raise ValueError(
            "layers must name at least one module with parameters, got none. "
            "Pass a model that has learned something."
        )
    return names


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Puts every parameter and buffer back as it was, bit for bit."""
    kept = [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers())]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def _randomise(module: nn.Module, generator: torch.Generator | None) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            home = home_of(generator)
            drawn = torch.randn(parameter.shape, generator=generator, device=home)
            own = parameter.detach().float()
            spread = own.std(correction=0)
            parameter.copy_(own.mean() + spread * drawn.to(parameter.device))


def _alike(first: Tensor, second: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Returns rank correlation and SSIM of two batches of maps."""
    both = finite(first) & finite(second)
    a, b = fit(first, size), fit(second, size)
    # Scaling hides a difference only between constant maps, which it makes zero.
    correlations = only_finite(rank_correlation(a, b), both)
    return correlations, only_finite(structural_similarity(scale(a), scale(b)), both)
