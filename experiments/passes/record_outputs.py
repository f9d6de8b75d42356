"""Keeps what a network answers to masked photographs, for experiments on the answers.

    python -m experiments.passes.record_outputs FOLDER --network resnet18

writes one file for each photograph: the activations, the output for the photograph and
the baseline, and the outputs for every active channel at `STRENGTHS`. Files that exist
are skipped, so an interrupted run can be continued. What an integration rule or a
choice of channels makes of a map is then a matter of arithmetic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch._inductor.config
from torch import Tensor, nn

from captum_iscam._utils.inputs import check_inputs
from captum_iscam.attr._layer import evaluate_layer
from captum_iscam.attr._masking import MaskedInputs
from experiments.quality.photographs import as_input, network, photographs

ROWS = 8
STRENGTHS = (0.1, 0.21234, 0.355051, 0.590533, 0.72, 0.844949, 0.911412, 1.0)
"""The Gauss-Radau points of two and three steps, full strength, and two more, which
make all weights of the interpolating rule positive (with the value 0 at strength 0)."""
Ask = Callable[..., Tensor]


@torch.no_grad()
def record(
    model: nn.Module,
    layer: nn.Module,
    ask: Ask,
    image: Tensor,
    at: Sequence[float] = STRENGTHS,
    every: int = 1,
) -> dict[str, object]:
    """Returns the answers for one photograph, see the module's text.

    Other strengths can be asked for, and every so many channels only.
    """
    batch = check_inputs(image, None, model)
    maps, output = evaluate_layer(model, layer, batch.inputs, None, None, False)
    flat = maps[0].flatten(2)[0]
    varying = (flat.amax(1) > flat.amin(1)).nonzero().squeeze(1)[::every]
    masked = MaskedInputs(batch, maps[0])
    strengths = torch.tensor(at, dtype=torch.float64)
    total = len(varying) * len(at)
    outputs = output.new_empty(total, output.shape[1])
    for start in range(0, total, ROWS):
        # A compiled model takes one shape only, so the last rows overlap.
        start = max(0, min(start, total - ROWS))
        stop = min(start + ROWS, total)
        count = len(at)
        first, last = start // count, -(-stop // count)
        rows = slice(start - first * count, stop - first * count)
        few = varying[first:last]
        examples = torch.zeros_like(few)
        outputs[start:stop] = ask(*masked.make(examples, few, strengths, rows))
    return {
        "activations": maps[0][0],
        "varying": varying,
        "strengths": list(at),
        "outputs": outputs.view(len(varying), len(at), -1),
        "of_input": output[0],
        "of_baseline": model(batch.baselines[0].expand_as(image))[0],
    }


def main() -> None:
    """Records what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", required=True)
    parser.add_argument("--photographs", type=int, default=40)
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
    for file in photographs(args.photographs):
        target = args.folder / f"{args.network}_{file.stem}.pt"
        if target.is_file():
            continue
        started = time.perf_counter()
        image = as_input(file)
        answers = record(model, layer, ask, image)
        part = target.with_suffix(".part")
        torch.save(answers, part)
        part.rename(target)
        print(f"{target.name}: {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
