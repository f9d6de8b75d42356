"""Whether row `i` of a layer's output belongs to input `i`.

A model may sort its inputs inside, by length for instance, and put its outputs back in
order. Then the map of an input is made of another one's activations, and no score
shows it. So what the layer gives in a pass that is there anyway is compared with what
it gave before: a row that has become that of another input is a sign of another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.hooks import is_compiled, thread_local_layer
from captum_iscam._utils.warn import warn_of_examples

# Shares of the largest value: of rounding, in half precision too, and another input.
_SAME = 0.02
_ANOTHER = 0.2


@contextmanager
def layer_rows(
    layer: nn.Module, of_input: bool, forward_func: object = None
) -> Iterator[list[Tensor]]:
    """Yields a list of what a layer gives, or is given, in this thread's passes.

    They are the first of several tensors, `(rows, values)`, of values at most 1024. Of
    layers on several devices nothing is seen, nor of those in a compiled
    `forward_func`, which a hook would have compiled anew.
    """
    found: list[Tensor] = []
    if is_compiled(forward_func):
        yield found
        return

    def keep(_: nn.Module, given: Any, output: Any) -> None:
        found.append(sample(given if of_input else output))

    with thread_local_layer(layer, None).register_forward_hook(keep):
        yield found


def sample(value: Any) -> Tensor:
    """Returns some values of each row, copied; none of what cannot be compared."""
    value = value[0] if isinstance(value, tuple | list) and value else value
    if not (isinstance(value, Tensor) and value.dim() > 1 and len(value)):
        return torch.empty(0, 0, device="cpu")
    if value.layout is not torch.strided or not value.is_floating_point():
        return torch.empty(0, 0, device="cpu")
    flat = value.detach().flatten(1)
    return flat[:, :: -(-flat.shape[1] // 1024) or 1].float().clone()


def warn_of_order(
    found: list[Tensor],
    before: Tensor,
    count: int,
    every: int = 1,
    skip: int = 0,
    one: int | None = None,
) -> None:
    """Warns of examples whose row is now that of another one.

    Args:
        found (list[Tensor]): Samples of passes of one example, or of all.
        before (Tensor): That of all of them before, in the order of the inputs.
        count (int): How many examples there are.
        every (int, optional): How many rows each example has, the last its own.
            Default: 1
        skip (int, optional): How many rows come before theirs. Default: 0
        one (int, optional): Which example it is, if it is one. Default: None
    """
    if len({part.shape[1:] for part in (before, *found)}) > 1:
        return
    rows = torch.cat([before[:0], *found])[
        every - 1 + skip : every * count + skip : every
    ]
    # Others are of a layer that runs several times in a pass.
    if len(before) < 2 or len(rows) != (count if one is None else 1):
        return
    # Those before may be the last ones only.
    first = 0 if one is None else one - (count - len(before))
    if first < 0:
        return
    size = rows.abs().amax(1)
    others = (before.roll(-by, 0)[first:][: len(rows)] for by in range(len(before)))
    own, *apart = ((rows - other).abs().amax(1) for other in others)
    moved = (own > _ANOTHER * size) & (torch.stack(apart).amin(0) < _SAME * size)
    which = moved.new_zeros(count)
    which[one or 0 :][: len(moved)] = moved
    warn_of_examples(
        which,
        "What the layer gives for {} changes places with another input in a forward "
        "pass, as where a model sorts its inputs, so the map may be that of another "
        "one. Pass one input at a time.",
    )
