"""Standard output and error that may be closed: the work goes on without them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Stream:
    """A stream whose reader may leave; what cannot be written is dropped.

    Args:
        stream (TextIO): The stream.

    Attributes:
        lost (bool): Whether anything could not be written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.lost = stream, False

    def write(self, text: str) -> int:
        """Writes the text, with escapes for what the stream cannot encode."""
        coding = getattr(self._stream, "encoding", None) or "utf-8"
        text = text.encode(coding, "backslashreplace").decode(coding)
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is still in memory."""
        self._attempt(self._stream.flush)

    def release(self) -> None:
        """Drops what is still in memory, which Python would write again at its end."""
        with suppress(OSError, ValueError):
            empty = os.open(os.devnull, os.O_WRONLY)
            os.dup2(empty, self._stream.fileno())
            os.close(empty)
            self._stream.flush()

    def _attempt(self, work: Callable[[], object]) -> None:
        if self.lost:
            return
        try:
            work()
        # A closed pipe or a full disk, and a stream that Python has closed.
        except (OSError, ValueError):
            self.lost = True

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)


@contextmanager
def standard_streams() -> Iterator[Callable[[], bool]]:
    """Lets a command go on when nobody reads its output any more.

    Yields a function that writes what is still in memory, and returns whether anything
    that was printed has been lost. Nothing counts as lost on a stream that was closed
    before the command began: it is as if it led to `/dev/null`.
    """
    _open_missing()
    before = sys.stdout, sys.stderr
    streams = [Stream(stream or _empty()) for stream in before]
    sys.stdout, sys.stderr = streams

    def lost() -> bool:
        for stream in streams:
            stream.flush()
        return any(stream.lost for stream in streams)

    try:
        yield lost
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            if stream.lost:
                stream.release()


def _empty() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _open_missing() -> None:
    """Opens the descriptors 0 to 2 that are closed.

    A file of results would get such a number, and what a library prints would be
    written into it.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
