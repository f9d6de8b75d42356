"""Calls of the user's code: what it raises, and what it changes for all that follows.

Functions that make models, transforms, plugins and registered metrics are called in the
middle of a command, whose relative paths and tensors are no business of theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from captum_iscam._utils.interrupts import Terminated


@contextmanager
def user_code() -> Iterator[None]:
    """Runs code of the user.

    Afterwards the working directory, the default type of tensors and whether gradients
    are recorded are what they were. What would end the program, such as SystemExit, is
    a RuntimeError that says so; Ctrl-C and SIGTERM still end it.
    """
    folder = None
    with suppress(OSError):  # it may have been deleted
        folder = os.getcwd()
    kind, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    except (Exception, KeyboardInterrupt, Terminated):
        raise
    except BaseException as end:
        raise RuntimeError(f"{type(end).__name__}: {end}") from end
    finally:
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(grad)
