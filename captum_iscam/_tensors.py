"""Files that torch.save wrote, read without running what they may hold."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch

# What the unpickler raises for a file that is something else depends on its bytes.
_NO_TENSORS = (
    pickle.UnpicklingError,
    AttributeError,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_tensors(file: Path, argument: str, repair: str) -> Any:
    """Returns the tensors in a file, on the CPU, with the containers around them.

    Args:
        file (Path): A file that torch.save wrote.
        argument (str): What the file is to the user, for the message.
        repair (str): What helps where the file is something else.

    Raises:
        ValueError: If the file holds anything else, code above all.
    """
    try:
        # Before 2.6 torch unpacks these archives of its first years, and trusts them.
        if tarfile.is_tarfile(file):
            raise pickle.UnpicklingError("a tar archive")
        return torch.load(file, map_location="cpu", weights_only=True)
    except _NO_TENSORS as e:
        raise ValueError(
            f"{argument} must be a file of tensors that torch.load reads, got "
            f"{str(file)!r} ({type(e).__name__}). {repair}"
        ) from e
