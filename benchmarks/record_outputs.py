"""Keeps what a network answers to masked photographs, for experiments on the answers.

    python benchmarks/record_outputs.py FOLDER --network resnet18 --photographs 40

writes one file for each photograph: the activations, the output for the photograph and
the baseline, and the outputs for every channel that is not constant at Gauss-Legendre
strengths and at strength 1; with `--channels`, for so many of them, drawn at random.
Files that are there are left alone, so a run that was stopped goes on. What an
integration rule makes of a map is then a matter of arithmetic, and so is, where all
channels were kept, what a choice of channels makes of it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config
from photographs import as_input, network, photographs
from torch import Tensor, nn

from captum_iscam._inputs import check_inputs
from captum_iscam.attr._layer import evaluate_layer
from captum_iscam.attr._masking import MaskedInputs

ROWS = 8
Ask = Callable[..., Tensor]


def strengths(points: int) -> list[float]:
    """Returns the Gauss-Legendre points on [0, 1], and 1."""
    nodes, _ = np.polynomial.legendre.leggauss(points)
    return [*((nodes + 1) / 2).tolist(), 1.0]


@torch.no_grad()
def record(
    model: nn.Module,
    layer: nn.Module,
    ask: Ask,
    image: Tensor,
    points: int,
    channels: int | None,
) -> dict[str, object]:
    """Returns the answers for one photograph, see the module's text."""
    batch = check_inputs(image, None, model)
    maps, output = evaluate_layer(model, layer, batch.inputs, None, None, False)
    flat = maps[0].flatten(2)[0]
    varying = (flat.amax(1) > flat.amin(1)).nonzero().squeeze(1)
    if channels is not None:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randperm(len(varying), generator=generator)[:channels]
        varying = varying[drawn.sort().values]
    views = MaskedInputs(batch, maps[0])
    shown = strengths(points)
    total = len(varying) * len(shown)
    outputs = output.new_empty(total, output.shape[1])
    for start in range(0, total, ROWS):
        # A compiled model takes one shape only, so the last rows overlap.
        start = max(0, min(start, total - ROWS))
        stop = min(start + ROWS, total)
        first, last = start // len(shown), -(-stop // len(shown))
        rows = slice(start - first * len(shown), stop - first * len(shown))
        few = varying[first:last]
        examples = torch.zeros_like(few)
        of_each = torch.tensor(shown, dtype=torch.float64).expand(len(few), -1)
        outputs[start:stop] = ask(*views.show(examples, few, of_each, rows))
    return {
        "activations": maps[0][0],
        "varying": varying,
        "strengths": shown,
        "outputs": outputs.view(len(varying), len(shown), -1),
        "of_input": output[0],
        "of_baseline": model(*views.baseline(torch.zeros(1, dtype=torch.long)))[0],
    }


def main() -> None:
    """Records what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", required=True)
    parser.add_argument("--photographs", type=int, default=40)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--channels", type=int, help="how many, all unless told")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="faster, after a minute")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, layer = network(args.network)
    ask: Ask = model
    if args.compile:
        torch._inductor.config.freezing = True
        ask = torch.compile(model, dynamic=False)
    args.folder.mkdir(parents=True, exist_ok=True)
    kept = args.points if args.channels is None else f"{args.points}x{args.channels}"
    for file in photographs(args.photographs):
        target = args.folder / f"{args.network}_{kept}_{file.stem}.pt"
        if target.is_file():
            continue
        started = time.perf_counter()
        image = as_input(file)
        answers = record(model, layer, ask, image, args.points, args.channels)
        part = target.with_suffix(".part")
        torch.save(answers, part)
        part.rename(target)
        print(f"{target.name}: {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
