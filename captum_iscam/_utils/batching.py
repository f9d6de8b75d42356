"""Work done in chunks that fit the memory of the device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from captum_iscam._utils.hooks import record_conv_outputs
from captum_iscam._utils.validation import as_count
from captum_iscam._utils.warn import warn_user

# The largest chunks, for images of 224 x 224. On a CPU small batches are faster, as
# long as a layer's output stays below some 26 MB: the allocator hands larger ones back
# to the system after every use. An accelerator is filled by large batches only.
_IMAGE_PIXELS = 224 * 224
_CPU_CHUNK = 8
_CPU_SMALLEST = 4
_CPU_BYTES = 26_000_000
_ACCELERATOR_CHUNK = 256
_LARGEST_CHUNK = 1024

# What a pass takes on an accelerator, for ten classifiers of torchvision: 9 to 43 times
# the bytes of its inputs, or up to 3.2 times its largest convolution where that is
# more; with gradients 30 to 200 times its inputs. That is assumed of a pass whose
# convolutions were not measured.
_SHARE_OF_FREE = 0.75
_PASS_PER_INPUT = 24
_PASS_PER_CONV = 4
_UNMEASURED_PASS_PER_INPUT = 200

# Errors that fewer rows mend: no memory, no workspace for cuDNN, and kernels that
# count elements in 32 bits.
_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "ALLOC_FAILED",
    "OUT_OF_DEVICE_MEMORY",
    "Invalid buffer size",
    "cuDNN error",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "unable to find an engine",
    "canUse32BitIndexMath",
    "32-bit index",
    "INT_MAX",
)

_forced: WeakKeyDictionary[Any, dict[Hashable, int]] = WeakKeyDictionary()
_lock = threading.Lock()


class Chunks:
    """Runs a body over ranges of at most `internal_batch_size` items.

    Args:
        internal_batch_size (int or None): Items in one call of the body. None picks a
            number for the device and its free memory, and halves it whenever memory
            runs out. The size that fits then is where the next `Chunks` of the same
            model, layer, input shape, dtype and device starts, so only the first one
            warns. A number that was given is never changed.
        inputs (Sequence[Tensor]): What the items are made from.
        forward_func (Callable, optional): The model, to remember the size for. It is
            referred to weakly, and nothing is stored on it. Default: None
        layer (torch.nn.Module or list, optional): Its layer. Default: None

    Attributes:
        size (int): Items in the next call of the body.
    """

    def __init__(
        self,
        internal_batch_size: int | None,
        inputs: Sequence[Tensor],
        *,
        forward_func: object = None,
        layer: object = None,
    ) -> None:
        if internal_batch_size is not None:
            internal_batch_size = as_count(
                "internal_batch_size",
                internal_batch_size,
                "Leave it out to have one chosen.",
                " or None",
            )
        self._may_shrink = internal_batch_size is None
        self._device = inputs[0].device
        self._shrunk = False
        self._forward_func, self._key = forward_func, _key(inputs, layer)
        forced = self._remembered()
        self._warned = forced is not None
        self._limit = internal_batch_size or forced or _largest_chunk(inputs)
        self._bytes = sum(x.shape[1:].numel() * x.element_size() for x in inputs)
        self._free = free_memory(self._device) if self._may_shrink else None
        self.size = self._fitting(_UNMEASURED_PASS_PER_INPUT * self._bytes)

    @contextmanager
    def fitted_to(self, model: object, rows: int) -> Iterator[list[int]]:
        """Makes the chunk suit the model, of which one pass of `rows` rows runs within.

        Yields the sizes measured so far, for a pass of which only the rest counts. Only
        outputs of convolutions are measured, and none in compiled code. The peak that
        the allocator reports is no help: it is the caller's to reset.
        """
        on_cpu = self._device.type == "cpu"
        if not self._may_shrink or (self._free is None and not on_cpu):
            yield []
            return
        with record_conv_outputs(model) as sizes:
            yield sizes
        largest = max([1, *sizes])
        if on_cpu:
            fitting = _CPU_BYTES * rows // largest
            self.size = min(self.size, max(_CPU_SMALLEST, fitting))
        elif sizes:
            measured = _PASS_PER_CONV * largest // rows
            self.size = self._fitting(max(_PASS_PER_INPUT * self._bytes, measured))

    def run(self, total: int, body: Callable[[int, int], None]) -> None:
        """Calls `body(start, stop)` until all of `total` items are done."""
        start = 0
        while start < total:
            stop = min(start + self.size, total)
            try:
                body(start, stop)
            except RuntimeError as error:
                if not (self._may_shrink and self.size > 1 and is_out_of_memory(error)):
                    raise
            else:
                start = stop
                self._remember()
                continue
            # Outside the handler, so that the traceback no longer holds the tensors
            # of the failed pass.
            self._shrink(stop - start)

    def _fitting(self, needed: int) -> int:
        """Returns how many items that need so many bytes each fit, up to the limit.

        It is a power of two, so that what else lives on the device seldom changes it.
        """
        if self._free is None:
            return self._limit
        fitting = max(1, int(_SHARE_OF_FREE * self._free) // max(1, needed))
        return min(self._limit, 1 << (fitting.bit_length() - 1))

    def _shrink(self, failed: int) -> None:
        self.size = self._limit = max(1, failed // 2)
        self._shrunk = True
        _hand_back_memory(self._device)
        if not self._warned:
            self._warned = True
            warn_user(
                f"Memory ran out with {failed} inputs per forward pass, going on with "
                f"{self.size}. Pass internal_batch_size to choose the number yourself.",
                RuntimeWarning,
            )

    def _remembered(self) -> int | None:
        try:
            with _lock:
                return _forced.get(self._forward_func, {}).get(self._key)
        except TypeError:  # there is no weak reference to it
            return None

    def _remember(self) -> None:
        """Keeps a size that memory forced, once it fits."""
        if self._shrunk:
            with suppress(TypeError), _lock:
                _forced.setdefault(self._forward_func, {})[self._key] = self.size


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that tensors on a device may still take, None if unknown."""
    backend: Any = getattr(torch, device.type, None)
    try:
        if device.type == "mps":
            most: int = backend.recommended_max_memory()
            return most - int(backend.current_allocated_memory())
        free: int = backend.mem_get_info(device)[0]
        # The allocator holds memory that no tensor uses.
        held = backend.memory_reserved(device) - backend.memory_allocated(device)
        return free + int(held)
    except (AttributeError, RuntimeError):  # the device or this torch cannot say
        return None


def synchronize(device: torch.device) -> None:
    """Waits until a device has done all that was asked of it."""
    wait: Any = getattr(getattr(torch, device.type, None), "synchronize", None)
    if device.type == "mps":
        wait()  # there is one only
    elif wait is not None:
        wait(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that fewer rows might do, see `_SIGNS`."""
    # Since torch 2.5 it is torch.OutOfMemoryError, of all accelerators.
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def _key(inputs: Sequence[Tensor], layer: object) -> Hashable:
    """Returns what a size depends on but for the model."""
    layers = layer if isinstance(layer, list) else [layer]
    alike = tuple((x.shape[1:], x.dtype, x.device) for x in inputs)
    return tuple(ref(one) for one in layers if one is not None), alike


def _largest_chunk(inputs: Sequence[Tensor]) -> int:
    """Returns as many items as have the pixels of a good number of images."""
    on_cpu = inputs[0].device.type == "cpu"
    images = _CPU_CHUNK if on_cpu else _ACCELERATOR_CHUNK
    pixels = max(x.shape[2:].numel() for x in inputs)
    return min(max(2, images * _IMAGE_PIXELS // max(1, pixels)), _LARGEST_CHUNK)


def _hand_back_memory(device: torch.device) -> None:
    """Gives cached memory of the device back to it, that of CUDA in any case.

    Inputs on the CPU may well belong to a model that brings them to a GPU.
    """
    for kind in {device.type, "cuda"}:
        hand_back: Any = getattr(getattr(torch, kind, None), "empty_cache", None)
        if hand_back is not None:
            hand_back()
