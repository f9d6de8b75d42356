"""Ctrl-C in a process of its own: exit code 130, no traceback, whenever it comes.

SIGTERM ends a command that asks for it by an exception, so that it can clean up.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED = 130
"""The exit code of shells for a process that Ctrl-C ended."""


class Terminated(SystemExit):
    """SIGTERM has come. Nothing but that ends a program by this exception."""


def leave_on_interrupt() -> None:
    """Makes Ctrl-C end the process at once.

    A library that is being imported may turn KeyboardInterrupt into an error of its
    own, and Python prints one that comes while it shuts down. Where the caller has
    chosen otherwise, such as to ignore Ctrl-C, nothing is changed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def raising_interrupts() -> Iterator[None]:
    """Makes Ctrl-C raise KeyboardInterrupt again, so that a command can clean up."""
    leaving = signal.getsignal(signal.SIGINT) is _leave
    if leaving:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if leaving:
            signal.signal(signal.SIGINT, _leave)


@contextmanager
def raising_sigterm() -> Iterator[None]:
    """Turns SIGTERM into :class:`Terminated`, so that a command can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> NoReturn:
    raise Terminated(128 + number)


def _leave(*_: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(INTERRUPTED)
