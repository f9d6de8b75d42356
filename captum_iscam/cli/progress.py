"""How far a command is: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from captum_iscam.cli.output import print_line

SECONDS = 60
"""The seconds between two lines."""


def progress(total: int) -> Progress | tqdm[Any]:
    """Returns a bar of maps, or what prints lines where there is no terminal."""
    if sys.stderr.isatty():
        return tqdm(total=total, unit="map", delay=1, leave=False)
    return Progress(total)


class Progress:
    """Prints a line about once a minute, and one at the end of a longer run.

    Args:
        total (int): The number of maps.

    Attributes:
        n (int): The number of those that are done.
    """

    def __init__(self, total: int) -> None:
        self.n, self._total = 0, total
        self._began = self._said = time.monotonic()

    def update(self, n: int = 1) -> None:
        """Counts maps that are done."""
        self.n += n
        if self.n < self._total and time.monotonic() - self._said >= SECONDS:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        taken = self._said - self._began
        left = taken * (self._total - self.n) / max(1, self.n)
        times = f"{tqdm.format_interval(taken)}, {tqdm.format_interval(left)} left"
        print_line(f"{self.n} of {self._total} maps in {times}", sys.stderr)

    def __enter__(self) -> Progress:
        """Begins."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Prints the last line, if the run was long enough for one before."""
        if time.monotonic() - self._began >= SECONDS:
            self._say()
