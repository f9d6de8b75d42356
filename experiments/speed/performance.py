"""Every measurement of the page on performance, and its table of goals.

    python -m experiments.speed.performance FOLDER --recordings OUTPUTS

runs the scripts of this folder and of `experiments/passes` one after the other, and
writes figures and tables into FOLDER. On two cores of a CPU that takes a
day; with `--short`, which leaves out what is slowest, an hour. What is there already is
kept, so a run that was stopped goes on; delete a file to measure it anew. Nothing else
should run meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = (
    "squeezenet1_1",
    "squeezenet1_0",
    "resnet18",
    "mobilenet_v2",
    "resnet50",
    "vgg16",
)
SHORT = ("squeezenet1_1", "resnet18")
RECORDED = {"squeezenet1_1": 40, "resnet18": 40}
"""Photographs of these networks; of the others 10."""


def speed(folder: Path, short: bool) -> list[list[str]]:
    """Returns the commands that time the methods."""
    networks = SHORT if short else NETWORKS
    score = ["--methods", "score-cam", "--networks", *networks]
    slow = ["--methods", "is-cam", "--networks", *networks, "--repeats", "1"]
    slowest = ["--methods", "ss-cam", "--networks", networks[0], "--repeats", "1"]
    first = ["speed.speed", str(folder / "speed"), "--missing"]
    compiled = ["speed.speed", str(folder / "compiled"), "--missing", "--compiled"]
    found = [[*first, *of] for of in (score, slow, slowest)]
    return [*found, [*compiled, "--networks", *SHORT]]


def recordings(folder: Path, short: bool) -> list[list[str]]:
    """Returns the commands that keep what networks answer."""
    found = []
    for name in SHORT if short else NETWORKS[:-1]:
        count = str(3 if short else RECORDED.get(name, 10))
        of = ["passes.record_outputs", str(folder), "--compile", "--network", name]
        of += ["--photographs", count]
        found.append(of)
    return found


def main() -> None:
    """Runs what is missing, then writes the table of goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--short", action="store_true")
    args = parser.parse_args()
    out, recorded = args.folder.resolve(), args.recordings.resolve()
    trained = SHORT if args.short else NETWORKS[:-1]
    steps = {
        "speed": speed(out, args.short),
        "precision": [
            ["speed.precision", str(out / "precision"), "--networks", *trained]
        ],
        "memory": [["speed.memory", str(out / "memory")]],
        "growth": [["speed.memory", str(out / "growth"), "--growth", "1000"]],
        "scaling": [["speed.scaling", str(out / "scaling")]],
        "passes": [
            *recordings(recorded, args.short),
            ["passes.passes", str(recorded), str(out / "passes")],
        ],
        "steep_scores": [["passes.steep_scores", str(out / "steep_scores")]],
        "several_targets": [["speed.several_targets", str(out / "several_targets")]],
        "outside": [["speed.outside", str(out / "outside")]],
    }
    for name, commands in steps.items():
        # What was timed is kept case by case.
        if name != "speed" and list(out.glob(f"{name}.*")):
            continue
        for command in commands:
            run(command)
    run(["speed.goals", str(out), str(out / "goals.md")])


def run(command: list[str]) -> None:
    """Runs a script of `experiments`, named by its module, with its arguments."""
    print(*command, flush=True)
    script, *words = command
    module = f"experiments.{script}"
    subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
