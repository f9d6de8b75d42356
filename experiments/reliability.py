"""The long form of the reliability tests, and the table of what survived.

    python -m experiments.reliability experiments/results/reliability.md

runs every test that enters cases into the ledger (`tests/reference/ledger.py`) in its
extended form and writes the number of cases by promise, and below the table which tests
were skipped. A single failure ends it without a table. Needs the extras `test` and
`release`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import environment

ROOT = Path(__file__).resolve().parent.parent
# Growth of memory is measured while nothing else runs.
ALONE = "test_load.py"
PARTS = ("Fuzzing", "Faults", "Load", "Files", "Disk and processes", "Supply")


def tests() -> list[Path]:
    """Returns the files that enter cases into the ledger."""
    enters = re.compile(r"\bcases\(|\bledger\b")
    return [
        file
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if file.name != "test_ledger.py" and enters.search(file.read_text())
    ]


def main() -> None:
    """Runs the tests and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--short", action="store_true", help="the form that CI runs")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    began = time.monotonic()
    alone = [file for file in tests() if file.name == ALONE]
    others = [file for file in tests() if file.name != ALONE]
    found = [outcome_of(file, not args.short) for file in alone]
    with ThreadPoolExecutor(args.processes) as pool:
        found += pool.map(lambda file: outcome_of(file, not args.short), others)
    if None in found:
        sys.exit("a test failed, so there is no table")
    lines = summed([line for of_file in found if of_file for line in of_file[0]])
    skips = [skip for of_file in found if of_file for skip in of_file[1]]
    minutes = (time.monotonic() - began) / 60
    form = "short" if args.short else "extended"
    written = [table(lines), "", *skipped(skips), about(form, minutes)]
    args.out.write_text("\n".join(written) + "\n")


def outcome_of(
    file: Path, extended: bool
) -> tuple[list[dict[str, str]], list[str]] | None:
    """Runs a file of tests.

    Returns:
        The lines it entered, and pytest's lines about what it skipped; None where a
        test failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        variables = {**os.environ, "CAPTUM_ISCAM_RELIABILITY_RECORD": str(record)}
        # Options of a whole run, such as a coverage to reach, are not for a file.
        variables.pop("PYTEST_ADDOPTS", None)
        if extended:
            variables["CAPTUM_ISCAM_EXTENDED"] = "1"
        command = [sys.executable, "-m", "pytest", "-q", "-rs", str(file)]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True
        )
        print(f"{file.name}: {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr, flush=True)
            return None
        skips = re.findall(r"^SKIPPED (.+)$", done.stdout, re.MULTILINE)
        if not record.exists():
            return [], skips
        lines: list[dict[str, str]] = json.loads(record.read_text())["lines"]
        return lines, skips


def summed(lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """Returns a line for each promise, however many files keep it."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        first = found.setdefault(
            (line["part"], line["promise"]), {**line, "cases": "0"}
        )
        first["cases"] = str(int(first["cases"]) + int(line["cases"]))
        first["figure"] = first["figure"] or line["figure"]
    return [*found.values()]


def table(lines: list[dict[str, str]]) -> str:
    """Returns the promises by part, with the number of cases and what was measured."""
    rows = []
    ordered = sorted(lines, key=lambda line: PARTS.index(line["part"]))
    for part, of_part in groupby(ordered, key=lambda line: line["part"]):
        rows.append([f"**{part}**", "", ""])
        rows += [[x["promise"], f"{int(x['cases']):,}", x["figure"]] for x in of_part]
    return markdown_table(["promise", "cases, all survived", "measured"], rows, None)


def skipped(skips: list[str]) -> list[str]:
    """Returns what the table lacks since it was skipped here."""
    if not skips:
        return []
    return ["Skipped, so not in the table:", "", *(f"- {skip}" for skip in skips), ""]


def about(form: str, minutes: float) -> str:
    """Returns what the table was made with."""
    made = environment("cpu")
    versions = ", ".join(f"{k} {v}" for k, v in dict(made["versions"]).items())
    return (
        f"{datetime.date.today()}, {form} form, {minutes:.0f} minutes, "
        f"{made['device']}, {made['threads']} threads, Python {made['python']}, "
        f"{versions}."
    )


if __name__ == "__main__":
    main()
