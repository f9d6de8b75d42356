"""What the benchmark adds to the forward passes of what it runs, in time and memory.

    python -m experiments.speed.harness OUT.md --network squeezenet1_1 --images 4

runs `captum-iscam benchmark` on photographs, with the bare passes of as many inputs
before, between and after; then on many drawn scenes, and looks at the memory of the
process while it runs. `CAPTUM_ISCAM_REALDATA` names the folder with networks and
photographs, see `photographs.py`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.io import write_png

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.hooks import count_passes
from captum_iscam.benchmark.experiment import Experiment
from captum_iscam.benchmark.explained_models import load_explained_model
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.metric_registry import find_metrics
from captum_iscam.benchmark.run import run
from captum_iscam.benchmark.sources import find_data
from captum_iscam.demo import CLASSES, draw_scenes
from captum_iscam.methods import Options
from experiments.quality.photographs import FOLDER, as_input, photographs
from experiments.speed.contenders import raw

METHODS = ("is-cam", "score-cam", "center-map")  # without a backward pass


def overhead(name: str, images: int, rounds: int) -> tuple[list[float], int]:
    """Returns seconds over those of the bare passes, by round, and the passes."""
    explained = load_explained_model(name, FOLDER / "weights" / f"{name}.pt")
    data = find_data(FOLDER / "images").subset(images, 0)
    experiment = Experiment(
        data, [explained], METHODS, find_metrics(None, False), Options()
    )
    model = explained.network.model
    shares = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            record = experiment.describe([], {}, [], 1)
            with count_passes(model) as passes:
                started = time.perf_counter()
                run(experiment, Path(folder), record)
                seconds = time.perf_counter() - started
        shares.append(seconds / bare(model, passes.rows))
    return shares, passes.rows


def bare(model: nn.Module, rows: int) -> float:
    """Returns the seconds of so many inputs in chunks of the methods' own size."""
    x = as_input(photographs(1)[0])
    few = Chunks(None, [x]).size * 20
    again = raw(model, few, Chunks(None, [x]).size, channels_last=True)
    again(x, 0)
    samples = []
    for _ in range(3):
        started = time.perf_counter()
        again(x, 0)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples) / few * rows


def memory(images: int) -> tuple[float, float, float]:
    """Returns the growth in KB per image, its standard error, and the peak in MB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_scenes(root / "scenes", images)
        command = [sys.executable, "-m", "captum_iscam", "benchmark", "--workers", "0"]
        command += ["--data", str(root / "scenes"), "--model", "scene-net"]
        command += ["--method", "grad-cam,random-map", "--steps", "4"]
        command += ["--metric", "insertion,average_drop", "--out", str(root / "out")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        seen = watch(process, root / "out")
    # The first quarter warms up, and after the last row come the tables.
    shown, used = np.array([s for s in seen if images / 4 < s[0] < images]).T
    (slope, _), spread = np.polyfit(shown, used, 1, cov=True)
    return slope * 1024, float(np.sqrt(spread[0, 0])) * 1024, float(used.max())


def write_scenes(folder: Path, count: int) -> None:
    """Writes drawn scenes in folders of their class."""
    for place, scene in enumerate(draw_scenes(count)):
        of_class = folder / CLASSES[scene.labels[0]]
        of_class.mkdir(parents=True, exist_ok=True)
        write_png((scene.image * 255).byte(), str(of_class / f"{place}.png"))


def watch(process: subprocess.Popen[bytes], out: Path) -> Sequence[tuple[int, float]]:
    """Returns images done and memory in use in MB, every half second."""
    seen = []
    while process.poll() is None:
        time.sleep(0.5)
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        except (FileNotFoundError, IndexError):
            break
        done = len(list((out / "images").glob("*.jpg")))
        seen.append((done, pages * 4096 / 2**20))
    if process.wait():
        sys.exit("the benchmark failed")
    return seen


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--network", default="squeezenet1_1")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(2)
    shares, rows = overhead(args.network, args.images, args.rounds)
    slope, error, peak = memory(args.scenes)
    passes = f"time over the {rows:,} bare passes, {args.network}, {args.images} images"
    middle = f"{statistics.median(shares):.2f}"
    growth = f"growth of memory over {args.scenes:,} images, KB an image"
    lines = [
        [passes, f"{middle} ({min(shares):.2f} to {max(shares):.2f})"],
        [growth, f"{slope:.2f} ± {error:.2f}"],
        ["most memory, MB", f"{peak:.0f}"],
    ]
    text = markdown_table(["what", "measured"], lines, left=None)
    print(text)
    args.out.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
