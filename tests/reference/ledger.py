"""How many cases each promise of docs/results/reliability.md was tried on."""

from __future__ import annotations

import json
import os
from pathlib import Path

EXTENDED = bool(os.environ.get("CAPTUM_ISCAM_EXTENDED"))
"""Whether the long form of the tests runs, whose figures the page shows."""

RECORD = os.environ.get("CAPTUM_ISCAM_RELIABILITY_RECORD")
"""The file to which the ledger goes at the end of the tests; none by default."""


def cases(short: int, extended: int) -> int:
    """Returns how many cases to try, by the form that runs."""
    return extended if EXTENDED else short


class Ledger:
    """What was tried. A test enters cases once they survived, so none failed."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], dict[str, object]] = {}

    def survived(self, part: str, promise: str, count: int, figure: str = "") -> None:
        """Enters cases that kept a promise; those of the same promise are summed.

        Args:
            part (str): A heading of the page: "Fuzzing", "Faults", "Load", "Files",
                "Disk and processes" or "Supply".
            promise (str): One sentence, as it stands on the page.
            count (int): Cases tried and survived.
            figure (str, optional): What was measured besides. Default: ""
        """
        line = self._lines.setdefault((part, promise), {"cases": 0, "figure": ""})
        line["cases"] = int(str(line["cases"])) + count
        line["figure"] = figure or line["figure"]

    def save(self, file: Path) -> None:
        """Writes all lines as JSON."""
        lines = [
            {"part": part, "promise": promise, **line}
            for (part, promise), line in self._lines.items()
        ]
        file.write_text(json.dumps({"lines": lines}, indent=1) + "\n")
