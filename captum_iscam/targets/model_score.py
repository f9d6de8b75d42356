"""A model and what is read from its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_iscam._utils.training import check_training_mode


class ModelScore:
    """A model that answers with one score per example, a `forward_func` for Captum.

    Args:
        model (Callable): The model, or any function of tensors.
        read (Callable): Turns the model's output into scores `(N,)`. It is called with
            the output and the model's arguments.
        show (Callable, optional): Turns the arguments into the tuple of those of the
            model. None passes them on. Default: None

    Examples::

        >>> import torch
        >>> model = torch.nn.Linear(4, 3).eval()
        >>> margin = ModelScore(model, lambda output, *_: output[:, 0] - output[:, 1])
        >>> margin(torch.rand(2, 4)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        model: Callable[..., Any],
        read: Callable[..., Tensor],
        show: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        if not callable(model):
            raise TypeError(
                f"model must be a callable, got {type(model).__name__}. Pass a module "
                "or a function of the inputs."
            )
        check_training_mode(model)
        self.model = model
        self._read = read
        self._show = show

    def __call__(self, *args: Any) -> Tensor:
        """Returns the scores `(N,)`."""
        shown = args if self._show is None else self._show(*args)
        return self._read(self.model(*shown), *args)

    @property
    def _orig_mod(self) -> ModelScore:
        """The same score of the module that torch.compile wrapped, for hooks."""
        inner = getattr(self.model, "_orig_mod", None)
        return self if inner is None else ModelScore(inner, self._read, self._show)

    @property
    def device_ids(self) -> Any:
        """Those of a DataParallel model, which attribution methods ask for."""
        return getattr(self.model, "device_ids", None)
