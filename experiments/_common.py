"""What a measurement leaves: `OUT.json` with every figure, `OUT.md` with a table."""

from __future__ import annotations

import csv
import gzip
import io
import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from captum_iscam.benchmark.experiment import processor


def save(out: Path, figures: Any, table: str) -> None:
    """Writes both files; `out` is named without a suffix."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    out.with_suffix(".md").write_text(table.rstrip("\n") + "\n")


def save_rows(out: Path, rows: Sequence[NamedTuple]) -> None:
    """Writes `OUT.csv.gz`, a line for each row; all rows are of one kind."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    for row in rows:
        writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row)
    # Without a date, so that the same figures make the same file.
    packed = gzip.compress(text.getvalue().encode(), mtime=0)
    out.with_suffix(".csv.gz").write_bytes(packed)


def load(out: Path) -> Any:
    """Returns the figures of a measurement, None where it was not made."""
    file = out.with_suffix(".json")
    return json.loads(file.read_text()) if file.is_file() else None


PACKAGES = ("captum", "captum_iscam", "grad-cam", "torch", "torchcam", "torchvision")


def environment(device: str) -> dict[str, object]:
    """Returns versions, threads and processor or card."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "type": device,
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """Returns the processor's name and its vector instructions that matter here."""
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
