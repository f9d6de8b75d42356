"""The long form of the reliability tests, and the table of what survived.

    python benchmarks/reliability.py docs/measured/reliability.md

runs every test that enters cases into the ledger (`tests/reliability/ledger.py`) in its
extended form and writes the number of cases by promise. A single failure ends it
without a table. Needs the extras `test` and `release`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

from environment import environment

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/reliability",
    "tests/benchmark/test_injection.py",
    "tests/benchmark/test_kills.py",
)


def main() -> None:
    """Runs the tests and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--short", action="store_true", help="the form that CI runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        began = time.monotonic()
        run_tests(record, extended=not args.short)
        minutes = (time.monotonic() - began) / 60
        lines = json.loads(record.read_text())["lines"]
    form = "short" if args.short else "extended"
    args.out.write_text("\n".join([*table(lines), "", about(form, minutes)]) + "\n")


def run_tests(record: Path, extended: bool) -> None:
    """Runs the tests; ends the program where one fails."""
    variables = {**os.environ, "CAPTUM_ISCAM_RELIABILITY_RECORD": str(record)}
    if extended:
        variables["CAPTUM_ISCAM_EXTENDED"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", *TESTS]
    done = subprocess.run(command, cwd=ROOT, env=variables)
    if done.returncode:
        sys.exit("the tests failed, so there is no table")


def table(lines: list[dict[str, str]]) -> list[str]:
    """Returns the promises by part, with the number of cases and what was measured."""
    rows = ["| promise | cases, all survived | measured |", "|---|---|---|"]
    first = {line["part"]: place for place, line in reversed([*enumerate(lines)])}
    ordered = sorted(lines, key=lambda line: first[line["part"]])
    for part, of_part in groupby(ordered, key=lambda line: line["part"]):
        rows.append(f"| **{part}** | | |")
        rows += [
            f"| {x['promise']} | {int(x['cases']):,} | {x['figure']} |" for x in of_part
        ]
    return rows


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
