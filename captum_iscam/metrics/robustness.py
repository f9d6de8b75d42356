"""Robustness: maximum sensitivity, computed by Captum, for maps of a layer."""

from __future__ import annotations

from typing import Any

import captum.metrics
import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.further_arguments import of_examples
from captum_iscam._utils.inputs import Batch, check_inputs
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, check_generator, require_floating
from captum_iscam.metrics._base import (
    ExplanationFunc,
    Inputs,
    check_samples,
    explain,
    generator_device,
    metric,
)
from captum_iscam.metrics._draws import WatchedDraws
from captum_iscam.metrics._maps import is_finite, nan_if_invalid, unit_factor


@metric(higher_is_better=False, unit="relative change")
def sensitivity_max(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Maximum sensitivity: how much the map changes under small noise in the input.

    Lower is better. Unit: relative change of the map, 0 and above.

    .. math::
        \max_{i \le S} \frac{\lVert L(x + e_i) - L(x) \rVert}{\lVert L(x) \rVert}

    `L(.)` is the map that `explanation_func` returns, :math:`e_i` noise drawn uniformly
    from `[-r, r]` for every value of the inputs. The norms are Euclidean, over the map
    at the size at which it is returned. Where `L(x)` is zero everywhere, the norm of
    the change itself is returned. All examples share the noise, so that a value does
    not depend on the rest of the batch.

    The value is computed by :func:`captum.metrics.sensitivity_max`, after C. Yeh, C.
    Hsieh, A. Suggala, D. Inouye, P. Ravikumar, "On the (In)fidelity and Sensitivity of
    Explanations", NeurIPS 2019, https://arxiv.org/abs/1901.09392. Captum's function
    alone is wrong for a method that returns a tensor instead of a tuple, as layer
    methods do: it takes the maps of the examples for separate maps of one example.

    Args:
        explanation_func (Callable): The attribution method, for example
            `LayerScoreCAM(model, layer).attribute`. It is called as
            `explanation_func(inputs, target=target)`, with the keyword
            `additional_forward_args` if there are any, and must return one map per
            example, `(N, 1, *spatial)`. It is called with `S` perturbed copies of each
            example, some at a time.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs. Any other shape
            `(N, ...)` is allowed, and every input is perturbed.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        perturb_radius (float, optional): `r`, the largest change of a value, in the
            unit of the inputs, at least 0. Default: 0.02
        n_perturb_samples (int, optional): `S`, the number of perturbed inputs per
            example, at least 1. Default: 10
        generator (torch.Generator, optional): Source of the random numbers; pass a
            seeded one for a reproducible value. Default: None, torch's global random
            state on the CPU
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory. It is the
            number of perturbed examples per call of `explanation_func`, never fewer
            than `N`. Default: None, that is `N`

    Returns:
        *Tensor* `(N,)`: relative change, 0 for a map that does not change. NaN where a
        map holds NaN or infinity.

    Raises:
        ValueError: If `perturb_radius`, `n_perturb_samples` or `internal_batch_size` is
            out of range, or `explanation_func` returns maps of a wrong shape.
        TypeError: If `inputs` or the maps of `explanation_func` are not floating point
            tensors, or `generator` is not a generator.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return torch.ones_like(inputs)
        >>> sensitivity_max(method, torch.rand(2, 1, 4, 4))
        tensor([0., 0.])
    """
    check_samples(n_perturb_samples)
    check_generator(generator)
    radius = as_number(perturb_radius)
    if radius is None or not 0 <= radius < torch.inf:
        raise ValueError(
            f"perturb_radius must be 0 or more, got {perturb_radius!r}. "
            "Omit it for the default, 0.02."
        )
    batch = check_inputs(inputs, None)
    for x in batch.inputs:
        require_floating("inputs", x, "Convert them with inputs.float().")
    fields = [
        _uniform((n_perturb_samples, *x.shape[1:]), radius, generator).to(x)
        for x in batch.inputs
    ]
    done = 0
    not_finite: list[Tensor] = []
    in_units, draws = _InUnits(batch.num_examples), WatchedDraws(explanation_func)

    # Captum goes through the samples in order, some at a time, and repeats every
    # example once per sample of the part. `done` counts the samples of earlier parts.
    def perturb(repeated: Inputs) -> Inputs:
        nonlocal done
        tensors = repeated if isinstance(repeated, tuple) else (repeated,)
        count = len(tensors[0]) // batch.num_examples
        part = slice(done, done + count)
        done += count
        perturbed = tuple(
            x + field[part].repeat(batch.num_examples, *[1] * (x.dim() - 1))
            for x, field in zip(tensors, fields, strict=True)
        )
        return perturbed if len(perturbed) > 1 else perturbed[0]

    def maps_in_a_tuple(perturbed: Inputs, **arguments: Any) -> tuple[Tensor]:
        # Captum passes a tuple for the examples and a tensor for their copies.
        tensors = perturbed if isinstance(perturbed, tuple) else (perturbed,)
        own_inputs = tensors if isinstance(inputs, tuple) else tensors[0]
        (examples,) = arguments["additional_forward_args"]
        further = of_examples(additional_forward_args, examples, batch.num_examples)
        with draws:
            maps = explain(
                explanation_func, own_inputs, arguments.get("target"), further
            )
        not_finite.append(~is_finite(maps).view(batch.num_examples, -1).all(1))
        return (in_units(maps),)

    values = captum.metrics.sensitivity_max(
        maps_in_a_tuple,
        batch.inputs,
        perturb_func=perturb,
        n_perturb_samples=n_perturb_samples,
        max_examples_per_batch=_rows_per_call(
            internal_batch_size, n_perturb_samples, batch
        ),
        target=target,
        # Captum repeats it like the inputs, so each row knows its example, and would
        # repeat every tensor among the caller's, also those that all rows share.
        additional_forward_args=(
            torch.arange(batch.num_examples, device=batch.device),
        ),
    )
    valid = ~torch.stack(not_finite).any(0)
    return nan_if_invalid(values.to(in_units.dtype).to(valid.device), valid)


class _InUnits:
    """Brings maps to units in which no square of a norm overflows or underflows.

    The unit is about the largest absolute value of the example's first map, that of the
    unperturbed input, or 1 where this map is zero everywhere. The maps are in double
    precision on the CPU, as a change may be far larger or smaller than the map.
    """

    def __init__(self, num_examples: int) -> None:
        self._num_examples = num_examples
        self._factor: Tensor | None = None
        self.dtype = torch.get_default_dtype()

    def __call__(self, maps: Tensor) -> Tensor:
        """Returns the maps of the examples, or of some perturbed copies of each."""
        values = maps.cpu().double()
        if self._factor is None:
            self.dtype = maps.dtype
            ones = [1] * (maps.dim() - 1)
            zero = (values == 0).flatten(1).all(1).view(-1, *ones)
            self._factor = torch.where(zero, 1, unit_factor(values))
        copies = len(values) // self._num_examples
        return (values * self._factor.repeat_interleave(copies, 0)).contiguous()


def _rows_per_call(internal_batch_size: int | None, samples: int, batch: Batch) -> int:
    """Returns a number that Captum allows: from `N` to `N` times the samples."""
    if internal_batch_size is None:
        return batch.num_examples
    size = Chunks(internal_batch_size, batch.inputs).size
    return min(max(size, batch.num_examples), batch.num_examples * samples)


def _uniform(
    shape: tuple[int, ...], radius: float, generator: torch.Generator | None
) -> Tensor:
    """Draws as Captum's default perturbation does, so that a seed gives its noise."""
    drawn = torch.empty(shape, device=generator_device(generator), dtype=torch.float32)
    return drawn.uniform_(-radius, radius, generator=generator)
