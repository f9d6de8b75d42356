"""Hooks that listen to the passes of one thread, whoever else runs the model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

# Torch numbers its hooks without a lock, and two of one number replace each other.
_REGISTERING = threading.Lock()


def heard_in_this_thread(
    layer: nn.Module, device_ids: Sequence[int] | None
) -> nn.Module:
    """Returns the layer as Captum should see it, with hooks for this thread alone.

    A hook sits on the module, so it sees the passes of every thread: without this, two
    threads that explain one model would take each other's activations for their own.
    `DataParallel` over several devices runs in threads of its own, where nothing tells
    whose pass it is; its layers are returned as they are.

    Args:
        layer (torch.nn.Module): The layer.
        device_ids (Sequence[int] or None): The devices of a `DataParallel` model.
    """
    return layer if device_ids and len(device_ids) > 1 else _OfThisThread(layer)


class _OfThisThread(nn.Module):
    """Stands for a layer where hooks are registered, and does nothing else."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = layer
        self._thread = threading.get_ident()

    def register_forward_hook(
        self, hook: Callable[..., Any], **options: Any
    ) -> RemovableHandle:
        """Registers a hook of the layer that other threads do not call."""
        with _REGISTERING:
            return self._layer.register_forward_hook(self._heard(hook), **options)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], **options: Any
    ) -> RemovableHandle:
        """Registers a hook of the layer's input that other threads do not call."""
        with _REGISTERING:
            return self._layer.register_forward_pre_hook(self._heard(hook), **options)

    def _heard(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def heard(*arguments: Any) -> Any:
            mine = threading.get_ident() == self._thread
            return hook(*arguments) if mine else None

        return heard
