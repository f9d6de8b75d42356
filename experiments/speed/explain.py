"""Times `captum-iscam explain` against the model's own forward passes.

    python -m experiments.speed.explain OUT --images FOLDER --weights FILE --count 30

explains photographs of a folder with SqueezeNet 1.1, top 3 classes, IS-CAM and
Grad-CAM, and writes OUT.json: seconds and processor seconds of everything after the
weights were loaded, of the forward passes in it, and of writing the results, and the
ratio of all to the forward passes. The backward passes of Grad-CAM, and making masked
inputs, count as time outside of the passes. On a busy machine the ratio of processor
seconds is the one to trust.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_iscam.cli import explain
from captum_iscam.cli.main import main as run

METHODS = "is-cam,grad-cam"


def now() -> tuple[float, float]:
    """Returns the time, and the processor seconds of this process."""
    return time.perf_counter(), time.process_time()


class Clock:
    """Adds up the seconds of functions, by name."""

    def __init__(self) -> None:
        self.wall: Counter[str] = Counter()
        self.processor: Counter[str] = Counter()

    def add(self, name: str, since: tuple[float, float]) -> None:
        """Adds what has passed since a moment."""
        wall, processor = now()
        self.wall[name] += wall - since[0]
        self.processor[name] += processor - since[1]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, whose calls are timed."""

        def timed(*args: Any, **options: Any) -> Any:
            since = now()
            try:
                return function(*args, **options)
            finally:
                self.add(name, since)

        return timed


class Timed(nn.Module):
    """A model whose forward passes are timed."""

    def __init__(self, model: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.model = model
        self._forward = clock.timed("passes", model)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns what the model returns."""
        return self._forward(inputs)


def measure(files: list[Path], model: str, weights: Path, methods: str) -> Clock:
    """Explains the files; returns the seconds of its parts."""
    clock, load, write = Clock(), explain.load_classifier, explain.write_results
    began = now()

    def load_timed(*args: Any, **options: Any) -> Any:
        nonlocal began
        network = load(*args, **options)
        began = now()
        return replace(network, model=Timed(network.model, clock).eval())

    explain.load_classifier = load_timed
    explain.write_results = clock.timed("writing", write)
    with tempfile.TemporaryDirectory() as out:
        words = ["explain", *map(str, files), "--model", model, "--target", "top3"]
        words += ["--weights", str(weights), "--method", methods, "--out", out]
        if run(words):
            raise SystemExit("An image could not be explained.")
    clock.add("all", began)
    explain.load_classifier, explain.write_results = load, write
    return clock


def main() -> None:
    """Measures once; the first image is explained once before, and not counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--method", default=METHODS)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = sorted(args.images.glob("*.jpg"))[: args.count]
    measure(files[:1], args.model, args.weights, "grad-cam")
    clock = measure(files, args.model, args.weights, args.method)
    kinds = {"seconds": clock.wall, "processor_seconds": clock.processor}
    figures = {
        "images": len(files),
        "model": args.model,
        "method": args.method,
        "threads": args.threads,
        **{kind: dict(found) for kind, found in kinds.items()},
        "ratio": {k: found["all"] / found["passes"] for k, found in kinds.items()},
    }
    args.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
