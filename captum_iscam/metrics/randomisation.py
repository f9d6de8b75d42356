"""Randomisation: whether the map depends on the model and on the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_sequence, check_generator
from captum_iscam._utils.warn import warn_user
from captum_iscam.metrics._base import (
    ExplanationFunc,
    Inputs,
    check_batch_and_maps,
    explain,
    explain_both,
    generator_device,
    metric,
    one_target,
)
from captum_iscam.metrics._draws import WatchedDraws
from captum_iscam.metrics._maps import (
    is_finite,
    min_max,
    nan_if_invalid,
    rank_correlation,
    resize,
    structural_similarity,
)


class Randomization(NamedTuple):
    """How similar the maps of the trained and of the randomised model are.

    Attributes:
        layers (list[str]): Names of the `R` layers, in the order in which they were
            randomised.
        rank_correlation (Tensor): Spearman's rank correlation of the maps of each
            example, `(R, N)`, in [-1, 1]; lower is better.
        ssim (Tensor): Structural similarity of these maps, `(R, N)`, in [-1, 1]; lower
            is better.

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
    r"""Model parameter randomisation test: how similar maps stay with random weights.

    Lower is better. Unit: correlation, from -1 to 1. A map must change with the model.

    Layer by layer, from the output down, the parameters are drawn anew, and the map of
    the randomised model is compared with that of the trained one, by Spearman's rank
    correlation and by structural similarity (SSIM). A map that stays the same does not
    depend on what the model has learned.

    J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt, B. Kim, "Sanity Checks
    for Saliency Maps", NeurIPS 2018, https://arxiv.org/abs/1810.03292. The authors run
    the initialisation of each layer again. Here each parameter is drawn from the normal
    distribution of its own mean and standard deviation. This works for any layer and
    keeps the size of the activations, so that a map changes because of the weights, and
    not because the signal vanishes. Buffers, such as the running statistics of a batch
    normalisation, stay, and so does a parameter whose values are all equal.

    The maps are compared at the size of the first input with as many dimensions as the
    maps, to which they are resized by linear interpolation (align_corners=False). The
    rank correlation gives equal values their mean rank. For the SSIM (Gaussian window
    of 11 pixels, sigma 1.5) the maps are min-max scaled to [0, 1]. Two equal maps have
    1 in both; otherwise a constant map has the rank correlation 0. A warning says so
    where no map changes at all, as where `explanation_func` explains another model.

    The model is changed in place and restored bit for bit, after an exception too.

    Args:
        explanation_func (Callable): The attribution method, for example
            `LayerScoreCAM(model, layer).attribute`. It is called as
            `explanation_func(inputs, target=target)`, with the keyword
            `additional_forward_args` if there are any, and must return one map per
            example, `(N, 1, *spatial)`. It must explain `model`, so that the changed
            parameters reach it.
        model (torch.nn.Module): The model whose parameters are randomised.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        mode (str, optional): "cascading" randomises each layer on top of those before
            it; "independent" restores the model first, so that one layer at a time is
            random. Default: "cascading"
        layers (sequence of str, optional): Names of the modules to randomise, in this
            order, as in `model.named_modules()`; each with its parameters and those of
            its submodules. Default: None, all modules with parameters of their own, the
            last defined first, each with these alone
        generator (torch.Generator, optional): Source of the random numbers; pass a
            seeded one for a reproducible value. Default: None, torch's global random
            state on the CPU

    Returns:
        :class:`Randomization`: both similarities, `(R, N)` for `R` layers. NaN where a
        map holds NaN or infinity.

    Raises:
        ValueError: If `mode` is unknown, `layers` names an unknown module or one
            without parameters, `target` holds several classes per example, or the maps
            do not fit the inputs.
        TypeError: If `inputs` or the maps of `explanation_func` are not floating point
            tensors, or `generator` is not a generator.

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
            "The first keeps the layers before it random, the second restores them."
        )
    draws = WatchedDraws(explanation_func)
    with draws:
        trained = explain(explanation_func, inputs, target, additional_forward_args)
    batch, _, indices = check_batch_and_maps(inputs, trained, None)
    size = batch.inputs[indices[0]].shape[2:]
    found: list[tuple[Tensor, Tensor]] = []
    below, changed = layers is not None, False

    def compare() -> None:
        nonlocal changed
        with draws:
            maps = explain(explanation_func, inputs, target, additional_forward_args)
        changed |= not torch.equal(trained, maps)
        found.append(_similarities(trained, maps, size))

    # Cascading: the parameters are restored once, after the last layer, so that each
    # layer is randomised on top of those before it. Independent: after every layer.
    if mode == "cascading":
        with _restored(model):
            for name in names:
                _randomise(model.get_submodule(name), generator, below)
                compare()
    else:
        for name in names:
            with _restored(model):
                _randomise(model.get_submodule(name), generator, below)
                compare()
    if not changed:
        warn_user(
            "The maps of explanation_func are the same, value for value, with random "
            "parameters in the layers of model. Unless they are not to depend on these "
            "layers, let it explain model itself, neither a copy nor another model."
        )
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

    Higher is better. Unit: correlation distance, from 0 to 2.

    .. math:: 1 - \rho\big(L(x; c),\, L(x; c')\big)

    `L(x; c)` is the map that `explanation_func` returns for the class `c`, `ρ`
    Spearman's rank correlation of two maps, in which equal values have their mean rank.
    A map that does not depend on the class has 0, and so have two equal constant maps.
    If one of two different maps is constant, the value is 1.

    After the random logit test of L. Sixt, M. Granz, T. Landgraf, "When Explanations
    Lie: Why Many Modified BP Attributions Fail", ICML 2020,
    https://arxiv.org/abs/1912.09818, which compares the maps by SSIM.

    Args:
        explanation_func (Callable): The attribution method, for example
            `LayerScoreCAM(model, layer).attribute`. It is called as
            `explanation_func(inputs, target=target)`, with the keyword
            `additional_forward_args` if there are any, and must return one map per
            example, `(N, 1, *spatial)`. If it, or the object whose method it is, has an
            attribute `takes_several_targets = True`, it is called once, with a target
            `(N, 2)`, and must return maps `(N, 2, *spatial)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            This is `c`. Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        other_target (int, tuple, Tensor or list): `c'`, the output to compare with, in
            the same forms as `target`.

    Returns:
        *Tensor* `(N,)`: distance in [0, 2]. NaN where one of the two maps holds NaN or
        infinity, or the two classes are the same.

    Raises:
        ValueError: If `explanation_func` returns maps of a wrong shape, or a target
            holds several classes per example.
        TypeError: If the maps of `explanation_func` are not floating point tensors.

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
    differ = _other_classes(target, other_target, len(maps)).to(maps.device)
    both = is_finite(maps) & is_finite(others) & differ
    return nan_if_invalid(1 - rank_correlation(maps, others), both)


def _other_classes(target: Target, other_target: Target, count: int) -> Tensor:
    """Returns which examples are compared with another class, `(N,)` of bool."""
    every = torch.ones(count, dtype=torch.bool, device="cpu")
    pair = [one_target(target), one_target(other_target)]
    if any(one is None or isinstance(one, tuple) for one in pair):
        return every
    first, second = (torch.as_tensor(one, device="cpu") for one in pair)
    # Tuples in a list are indices of several dimensions: one of them has to differ.
    differ = first != second
    return every & (differ.any(-1) if differ.dim() > 1 else differ)


def _similarities(
    first: Tensor, second: Tensor, size: torch.Size
) -> tuple[Tensor, Tensor]:
    """Returns rank correlation and SSIM of two batches of maps."""
    both = is_finite(first) & is_finite(second)
    a, b = resize(first, size), resize(second, size)
    # Scaling hides a difference only between constant maps, which it makes zero.
    correlations = nan_if_invalid(rank_correlation(a, b), both)
    similarities = structural_similarity(min_max(a), min_max(b))
    return correlations, nan_if_invalid(similarities, both)


def _as_name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _layer_names(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """Returns the names of the modules to randomise, from the output down."""
    if layers is None:
        own = [
            name
            for name, module in model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        names = own[::-1]
    else:
        repair = 'Pass ["head"] for one alone.'
        words = as_sequence("layers", layers, _as_name, "names of modules", repair)
        names = list(words)
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
            "Pass a model with parameters."
        )
    return names


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Restores every parameter and buffer on exit, bit for bit, after an error too.

    Buffers are restored as well: passes of a model in training mode update them. The
    values are copied into the same tensors, which an optimiser may share.
    """
    tensors = (*model.parameters(), *model.buffers())
    saved = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)


def _randomise(
    module: nn.Module, generator: torch.Generator | None, below: bool
) -> None:
    """Draws the parameters of a module anew, and those below it, in place.

    1. Draw standard normal numbers on the generator's device, so that a seed gives the
       same parameters on every device of the model.
    2. Scale them to the mean and the standard deviation of the parameter, computed in
       float32, as half precision would round the mean of many values.
    3. A parameter that holds the same value everywhere has the deviation 0 and keeps
       this value.
    """
    with torch.no_grad():
        device = generator_device(generator)
        for parameter in module.parameters(recurse=below):
            drawn = torch.randn(
                parameter.shape, generator=generator, device=device, dtype=torch.float32
            )
            values = parameter.detach().float()
            deviation = values.std(correction=0)
            parameter.copy_(values.mean() + deviation * drawn.to(parameter.device))
