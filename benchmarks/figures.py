"""What a measurement leaves: `OUT.json` with every figure, `OUT.md` with a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def save(out: Path, figures: Any, table: str) -> None:
    """Writes both files; `out` is named without a suffix."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    out.with_suffix(".md").write_text(table.rstrip("\n") + "\n")


def load(out: Path) -> Any:
    """Returns the figures of a measurement, None where it was not made."""
    file = out.with_suffix(".json")
    return json.loads(file.read_text()) if file.is_file() else None
