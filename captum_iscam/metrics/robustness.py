"""Maximum sensitivity by Captum, made right for the maps of a layer."""

from __future__ import annotations

from typing import Any

import captum.metrics
import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.inputs import Batch, check_inputs
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, check_generator
from captum_iscam.metrics._base import (
    ExplanationFunc,
    Inputs,
    check_samples,
    explain,
    home_of,
    metric,
)
from captum_iscam.metrics._maps import finite, only_finite


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
    r"""Maximum sensitivity: how far the map moves when the input hardly does.

    .. math::
        \max_{i \le S} \frac{\lVert L(x + e_i) - L(x) \rVert}{\lVert L(x) \rVert}

    with :math:`e_i` uniform in `[-r, r]` for every value of the inputs, and Euclidean
    norms over the map as the method gives it. Where `L(x)` is zero everywhere the
    change itself is returned.

    Computed by :func:`captum.metrics.sensitivity_max`, after C. Yeh et al., "On the
    (In)fidelity and Sensitivity of Explanations", NeurIPS 2019,
    https://arxiv.org/abs/1901.09392. Captum's function alone is wrong for a method that
    returns a tensor rather than a tuple, as layer methods do: it takes the map's
    examples for separate maps. Here all examples share the noise, so that a value does
    not depend on the rest of the batch.

    Args:
        explanation_func (Callable): See :func:`coherency`. It is called with
            `S` perturbed copies of each example, some at a time.
        inputs (Tensor or tuple[Tensor, ...]): Inputs of any floating point shape; all
            are perturbed.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        perturb_radius (float, optional): `r`, in the unit of the inputs. Default: 0.02
        n_perturb_samples (int, optional): `S`. Default: 10
        generator (torch.Generator, optional): Where the noise comes from.
            Default: None, torch's global random state on the CPU
        internal_batch_size (int, optional): Perturbed examples per call of the method,
            never less than `N`. Default: None, that is `N`

    Returns:
        *Tensor* `(N,)`: 0 for a map that does not move, lower is better, NaN where a
        map holds NaN or infinity.

    Raises:
        ValueError: If `perturb_radius` is negative, `n_perturb_samples` below 1, or
            the method gives maps of a wrong shape.
        TypeError: If inputs or the method's maps are no floating point tensors.

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
            "Leave it out for 0.02."
        )
    batch = check_inputs(inputs, None)
    for x in batch.inputs:
        if not x.is_floating_point():
            raise TypeError(
                f"inputs must be floating point, got {x.dtype}. Convert them with "
                "inputs.float()."
            )
    fields = [
        _uniform((n_perturb_samples, *x.shape[1:]), radius, generator).to(x)
        for x in batch.inputs
    ]
    done = 0
    broken: list[Tensor] = []

    def perturb(repeated: Inputs) -> Inputs:
        nonlocal done
        tensors = repeated if isinstance(repeated, tuple) else (repeated,)
        count = len(tensors[0]) // batch.num_examples
        part = slice(done, done + count)
        done += count
        moved = tuple(
            x + field[part].repeat(batch.num_examples, *[1] * (x.dim() - 1))
            for x, field in zip(tensors, fields, strict=True)
        )
        return moved if len(moved) > 1 else moved[0]

    def maps_in_a_tuple(perturbed: Inputs, **arguments: Any) -> tuple[Tensor]:
        # Captum gives a tuple for the examples and a tensor for their copies.
        tensors = perturbed if isinstance(perturbed, tuple) else (perturbed,)
        shown = tensors if isinstance(inputs, tuple) else tensors[0]
        asked = arguments.get("target")
        further = arguments.get("additional_forward_args")
        if further is not None and not isinstance(additional_forward_args, tuple):
            further = further[0] if isinstance(further, tuple) else further
        maps = explain(explanation_func, shown, asked, further)
        broken.append(~finite(maps).view(batch.num_examples, -1).all(1))
        return (maps.contiguous(),)

    found = captum.metrics.sensitivity_max(
        maps_in_a_tuple,
        batch.inputs,
        perturb_func=perturb,
        n_perturb_samples=n_perturb_samples,
        max_examples_per_batch=_rows_per_call(
            internal_batch_size, n_perturb_samples, batch
        ),
        target=target,
        additional_forward_args=additional_forward_args,
    )
    return only_finite(found, ~torch.stack(broken).any(0))


def _rows_per_call(internal_batch_size: int | None, samples: int, batch: Batch) -> int:
    """Returns a number Captum takes: from `N` to `N` times the samples."""
    if internal_batch_size is None:
        return batch.num_examples
    size = Chunks(internal_batch_size, batch.inputs).size
    return min(max(size, batch.num_examples), batch.num_examples * samples)


def _uniform(
    shape: tuple[int, ...], radius: float, generator: torch.Generator | None
) -> Tensor:
    """Draws as Captum's default perturbation does, so that seeds mean the same."""
    return torch.empty(shape, device=home_of(generator)).uniform_(
        -radius, radius, generator=generator
    )
