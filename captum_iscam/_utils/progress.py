"""How far a command is: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

_LAYOUT = "{n_fmt}/{total_fmt}{unit}s, {rate_noinv_fmt}, {remaining} left"
_SECONDS_PER_LINE = 60.0


def progress(
    total: int, unit: str, title: str | None = None, hidden: bool = False
) -> tqdm[Any] | ProgressLines:
    """Returns a bar, or what prints lines where there is no terminal.

    Args:
        total (int): The number of things to do.
        unit (str): What one of them is.
        title (str, optional): What stands before the bar. Default: None
        hidden (bool, optional): Whether nothing is shown. Default: False
    """
    if not hidden and not sys.stderr.isatty():
        return ProgressLines(total, unit)
    layout = "{l_bar}{bar}| " + _LAYOUT
    return tqdm(
        total=total, unit=f" {unit}", desc=title, disable=hidden, bar_format=layout
    )


class ProgressLines:
    """Prints a line each minute, and one at the end of a run of a minute or more.

    A log would keep every state of a bar.

    Args:
        total (int): The number of things to do.
        unit (str): What one of them is.

    Attributes:
        n (int): The number of those that are done.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.n, self._total, self._unit = 0, total, unit
        self._start = self._last = time.monotonic()

    def __enter__(self) -> ProgressLines:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Prints the last line."""
        now = time.monotonic()
        if now - self._start >= _SECONDS_PER_LINE:
            self._print(now)

    def update(self, n: int = 1) -> None:
        """Counts what is done."""
        self.n += n
        now = time.monotonic()
        # The end has a line of its own.
        if now - self._last >= _SECONDS_PER_LINE and self.n < self._total:
            self._print(now)

    def _print(self, now: float) -> None:
        self._last = now
        unit = f" {self._unit}"
        elapsed = now - self._start
        line = tqdm.format_meter(
            self.n, self._total, elapsed, unit=unit, bar_format=_LAYOUT
        )
        tqdm.write(line, file=sys.stderr)
