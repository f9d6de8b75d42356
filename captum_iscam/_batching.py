"""Work done in chunks that fit the memory of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from captum_iscam._hooks import hear_convolutions
from captum_iscam._numbers import as_integer
from captum_iscam._warnings import warn_user

# Where nothing is said, for pictures of 224 x 224; both are only a start, halved when
# memory runs out. On a CPU small batches are faster, as long as a layer's output stays
# below some 26 MB: the allocator hands larger ones back to the system after every use.
# An accelerator is filled by large batches only.
_PLACES = 224 * 224
_CPU_CHUNK = 8
_CPU_SMALLEST = 4
_CPU_BYTES = 26_000_000
_ACCELERATOR_CHUNK = 256
_LARGEST_CHUNK = 1024


def as_count(name: str, value: object, repair: str, rule: str = "") -> int:
    """Returns a whole number of at least 1, of whatever integer type, or raises."""
    number = as_integer(value)
    if number is None or number < 1:
        raise ValueError(
            f"{name} must be an integer of at least 1{rule}, got {value!r}. {repair}"
        )
    return number


class Chunks:
    """Runs a body over ranges of at most `internal_batch_size` items.

    Args:
        internal_batch_size (int or None): Items in one call of the body. None picks a
            number for the device and halves it, with one warning, whenever memory
            runs out; a number that was given is never changed.
        inputs (Sequence[Tensor]): What the items are made from.
    """

    def __init__(
        self, internal_batch_size: int | None, inputs: Sequence[Tensor]
    ) -> None:
        if internal_batch_size is not None:
            internal_batch_size = as_count(
                "internal_batch_size",
                internal_batch_size,
                "Leave it out to have one chosen.",
                " or None",
            )
        self._may_shrink = internal_batch_size is None
        self._on_cpu = inputs[0].device.type == "cpu"
        self._warned = False
        self.size = internal_batch_size or _chunk_for(inputs)

    @contextmanager
    def fitted_to(self, model: object, rows: int) -> Iterator[None]:
        """Makes the chunk suit the model, of which one pass of `rows` rows runs within.

        Only convolutions are listened to, and none in compiled code.
        """
        if not (self._may_shrink and self._on_cpu):
            yield
            return
        with hear_convolutions(model) as sizes:
            yield
        fitting = _CPU_BYTES * rows // max([1, *sizes])
        self.size = min(self.size, max(_CPU_SMALLEST, fitting))

    def run(self, total: int, body: Callable[[int, int], None]) -> None:
        """Calls `body(start, stop)` until all of `total` items are done."""
        start = 0
        while start < total:
            stop = min(start + self.size, total)
            try:
                body(start, stop)
            except RuntimeError as error:
                if not (self._may_shrink and self.size > 1 and _out_of_memory(error)):
                    raise
            else:
                start = stop
                continue
            # Outside the handler, so that the traceback no longer holds the tensors
            # of the failed pass.
            self._shrink(stop - start)

    def _shrink(self, failed: int) -> None:
        self.size = max(1, failed // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._warned:
            self._warned = True
            warn_user(
                f"Memory ran out with {failed} inputs per forward pass, going on with "
                f"{self.size}. Pass internal_batch_size to choose the number yourself.",
                RuntimeWarning,
            )


def _chunk_for(inputs: Sequence[Tensor]) -> int:
    """Returns as many items as have the places of a good number of pictures."""
    on_cpu = inputs[0].device.type == "cpu"
    pictures = _CPU_CHUNK if on_cpu else _ACCELERATOR_CHUNK
    places = max(x.shape[2:].numel() for x in inputs)
    return min(max(2, pictures * _PLACES // max(1, places)), _LARGEST_CHUNK)


def _out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    text = str(error)
    signs = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return any(sign in text for sign in signs)
