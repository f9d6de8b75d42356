"""What each library, and a user's code, gives of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captum_iscam._utils.files import sha256
from captum_iscam.networks.preprocessing import Preprocessing
from captum_iscam.networks.weights import DEFAULT, digest_of


@dataclass(frozen=True)
class Request:
    """Which network is asked for.

    Attributes:
        name (str): The whole name.
        inside (str): The name without the prefix of its library.
        weights (str or Path): `DEFAULT`, a name in the library, or a file.
        size (int or None): Side of the crop, for models that are built for one.
    """

    name: str
    inside: str
    weights: str | Path
    size: int | None

    @property
    def is_default(self) -> bool:
        """Whether the library's own weights are asked for."""
        return str(self.weights) == DEFAULT


@dataclass(frozen=True)
class Parts:
    """A model as its library gives it, on the CPU.

    Attributes:
        model (torch.nn.Module): The model.
        preprocessing (Preprocessing, Callable or None): Its own transform; None where
            none is known.
        classes (tuple[str, ...] or None): Its own names; None where none are known.
        weights (str): Which weights.
        sha256 (str): Their digest.
        source (str): Where the architecture comes from.
    """

    model: nn.Module
    preprocessing: Preprocessing | Callable[[Any], Tensor] | None
    classes: tuple[str, ...] | None
    weights: str
    sha256: str
    source: str


def about_weights(model: nn.Module, file: Path | None, else_: str) -> tuple[str, str]:
    """Returns name and digest of a file, or of the weights that the model has."""
    if file is None:
        return else_, digest_of(model)
    return file.name, sha256(file)
