"""Kinds of faults that once went wrong without a word, and their cases in the tests.

    python -m experiments.fault_kinds OUT.md

runs the tests that are named after a kind, slow ones as well, and writes a line for
each: its name in words, the cases that passed, and those that were skipped. A single
failure ends it without a table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from captum_iscam.benchmark.markdown import markdown_table

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "Inputs, layers and modes": "tests/promises/test_inputs_and_layers.py",
    "Axes of layers": "tests/promises/test_layer_axes.py",
    "Scores and buffers that change": "tests/promises/test_steady_scores.py",
    "Axes of inputs": "tests/promises/test_input_axes.py",
    "Layers of several outputs": "tests/promises/test_layers_of_several_outputs.py",
    "Kinds of tensors": "tests/promises/test_kinds_of_tensors.py",
    "Flags": "tests/promises/test_flags.py",
    "Further arguments": "tests/promises/test_further_arguments.py",
    "Scores, targets and models": "tests/promises/test_scores_and_errors.py",
    "Values of metrics": "tests/promises/test_metric_values.py",
    "Grids of tokens": "tests/promises/test_grids_of_tokens.py",
    "Methods by name": "tests/promises/test_methods_by_name.py",
    "Found by testers": "tests/promises/test_silent_faults.py",
    "Odd values": "tests/promises/test_odd_values.py",
    "Draws and peaks": "tests/promises/test_draws_and_peaks.py",
    "Images": "tests/journeys/test_files_kinds.py",
    "Weights": "tests/unit/networks/test_weights.py",
    "Figures": "tests/unit/visualization/test_arguments.py",
    "Command line and benchmark": "tests/journeys/test_faults_of_commands.py",
}


def counts_of(file: str) -> dict[str, list[int]]:
    """Returns passed and skipped cases of each test of a file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-q", "-m", "slow or not slow", f"--junitxml={report}", file]
        done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT)
        if done.returncode:
            sys.exit(f"a test of {file} failed, so there is no table")
        cases = ElementTree.parse(report).getroot().iter("testcase")
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for case in cases:
            test = case.attrib["name"].partition("[")[0]
            counts[test][case.find("skipped") is not None] += 1
    return counts


def main() -> None:
    """Runs the tests and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rows = []
    for title, file in FILES.items():
        rows.append([f"**{title}**", "", ""])
        for test, (passed, skipped) in counts_of(file).items():
            kind = test.removeprefix("test_").replace("_", " ")
            rows.append([kind, f"{passed:,}", str(skipped or "")])
    table = markdown_table(["kind", "cases, all passed", "skipped"], rows, left=1)
    args.out.write_text(f"{table}\n")


if __name__ == "__main__":
    main()
