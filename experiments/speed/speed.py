"""Times our methods, torch-cam, grad-cam and bare forward passes, interleaved.

    python -m experiments.speed.speed OUT --networks squeezenet1_1 resnet18 --repeats 3

writes OUT.json with every sample and OUT.md with a table. Each round runs every
contender of a case once, so that whatever else the machine does meets all of them.
`CAPTUM_ISCAM_REALDATA` names the folder with networks and photographs, see
`photographs.py`; a network without a file there has random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import environment, load, save
from experiments.quality.photographs import as_input, network, photographs
from experiments.speed.contenders import (
    BATCHES,
    Contender,
    grad_cam,
    ours,
    raw,
    rows_of,
    torchcam,
)

METHODS = ("score-cam", "is-cam", "ss-cam")
# What torch-cam computes as IS-CAM: ten passes for each channel, of other images.
AS_TORCHCAM: dict[str, Any] = {
    "score": "identity",
    "n_steps": 10,
    "method": "accumulated",
    "channel_softmax": True,
}
SAME_READING = "torch-cam's variant by captum_iscam"


def contenders(
    method: str, model: nn.Module, layer: nn.Module, compiled: bool
) -> list[Contender]:
    """Returns who competes at a method; with ours on a compiled model on request."""
    options = {"ss-cam": {"stdevs": 0.5}}.get(method, {})
    found = [
        Contender("captum_iscam", ours(method, model, layer, **options)),
        Contender(
            "captum_iscam, bfloat16",
            ours(method, model, layer, autocast=True, **options),
        ),
        Contender("torch-cam", torchcam(method, model, layer)),
    ]
    if method == "is-cam":
        three = ours(method, model, layer, n_steps=3)
        found.insert(1, Contender("captum_iscam, n_steps=3", three))
        found.append(Contender(SAME_READING, ours(method, model, layer, **AS_TORCHCAM)))
    if method == "score-cam":
        found.append(Contender("grad-cam", grad_cam(model, layer)))
    if compiled:
        run = ours(method, model, layer, compiled=True, **options)
        found.insert(1, Contender("captum_iscam, compiled", run, warm=True))
    return found


def best_raw(model: nn.Module, rows: int, x: Tensor) -> Contender:
    """Returns the bare passes at the batch size and layout that are fastest."""
    trials = [
        (raw(model, 4 * batch, batch, layout), batch, layout)
        for batch in BATCHES[x.device.type]
        for layout in (False, True)
    ]
    found = []
    for trial, batch, layout in trials * 2:  # once more, lest one moment decide
        trial(x, 0)
        found.append((timed(trial, x, 0)[0] / (4 * batch), batch, layout))
    _, batch, channels_last = min(found)
    layout = "channels last" if channels_last else "contiguous"
    name = f"raw passes ({batch}, {layout})"
    return Contender(name, raw(model, rows, batch, channels_last), rows=rows)


def timed(run: Any, x: Tensor, target: int) -> tuple[float, Tensor]:
    """Returns seconds and answer of one run."""
    _wait(x)
    started = time.perf_counter()
    answer = run(x, target)
    _wait(x)
    return time.perf_counter() - started, answer


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def measure(name: str, method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the samples of one network and method."""
    model, layer = network(name)
    model.to(args.device)
    # One photograph for all rounds: the number of active channels differs between them.
    x = as_input(photographs(1)[0]).to(args.device)
    with torch.no_grad():
        target = int(model(x).argmax())
    field = contenders(method, model, layer, args.compiled)
    if args.only:
        field = [one for one in field if one.name.startswith(tuple(args.only))]
    field[0].rows = rows_of(field[0].run, model, x, target)
    field.append(best_raw(model, field[0].rows, x))
    for one in field:
        if one.warm or x.is_cuda:  # where the first run chooses and loads kernels
            seconds, _ = timed(one.run, x, target)
            print(f"{name} {method} {one.name}, first run: {seconds:.2f} s", flush=True)
    for turn in range(args.repeats):
        for one in field[turn % len(field) :] + field[: turn % len(field)]:
            seconds, one.answer = timed(one.run, x, target)
            one.seconds.append(seconds)
            print(f"{name} {method} {one.name}: {seconds:.2f} s", flush=True)
    return {
        "network": name,
        "method": method,
        "rows": field[0].rows,
        "rounds": args.repeats,
        "environment": environment(args.device),
        "contenders": [
            {
                "name": one.name,
                "seconds": one.seconds,
                "map_error": _map_error(one, field[0]),
            }
            for one in field
        ],
    }


def _map_error(one: Contender, first: Contender) -> float | None:
    """Returns the relative difference of our own maps from the float32 one."""
    if not one.name.startswith("captum_iscam") or one is first:
        return None
    mine, reference = one.answer, first.answer
    if mine is None or reference is None or not reference.any():
        return None
    return float((mine.float() - reference).norm() / reference.norm())


def tables(cases: list[dict[str, Any]]) -> str:
    """Returns a Markdown table for each device, under its name."""
    by_device: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        by_device.setdefault(_device(case), []).append(case)
    found = []
    for device, some in by_device.items():
        versions = some[0]["environment"]["versions"]
        found.append(f"{device}, torch {versions['torch']}:\n\n{table(some)}")
    return "\n".join(found)


def _device(case: dict[str, Any]) -> str:
    return str(case["environment"]["device"])


def table(cases: list[dict[str, Any]]) -> str:
    """Returns the cases as a Markdown table of medians, quartiles and ratios."""
    heading = ["network", "method", "contender", "of torch-cam's time"]
    lines = []
    for case in cases:
        samples = {one["name"]: one["seconds"] for one in case["contenders"]}
        bare = next(s for name, s in samples.items() if name.startswith("raw"))
        for one in case["contenders"]:
            name = one["name"]
            if case["environment"]["type"] == "cuda":
                name += f", {statistics.median(one['seconds']):.2f} s"
            error = one["map_error"]
            cells = [
                case["network"],
                case["method"],
                name,
                ratio(one["seconds"], samples.get("torch-cam")),
                ratio(one["seconds"], bare),
                "" if error is None else f"{100 * error:.2f} %",
            ]
            lines.append(cells)
    return markdown_table([*heading, "of raw passes", "map"], lines, left=None) + "\n"


def ratio(seconds: list[float], others: list[float] | None) -> str:
    """Returns the median of the ratios round by round, and their quartiles."""
    if not others:
        return ""
    ratios = [a / b for a, b in zip(seconds, others, strict=True)]
    middle = f"{statistics.median(ratios):.2f}"
    if len(ratios) < 3:
        return middle
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="where to write, without a suffix")
    parser.add_argument("--networks", nargs="+", default=["squeezenet1_1", "resnet18"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["score-cam"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--only", nargs="+", help="contenders whose name begins so")
    parser.add_argument("--compiled", action="store_true", help="ours, compiled, too")
    parser.add_argument("--missing", action="store_true", help="keep what is there")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = load(args.out) or {"cases": []}
    here = environment(args.device)
    for name in args.networks:
        for method in args.methods:
            same = [
                case
                for case in found["cases"]
                if (case["network"], case["method"]) == (name, method)
                and case["environment"]["type"] == here["type"]
            ]
            if args.missing and same:
                continue
            kept = [
                case
                for case in found["cases"]
                if case not in same or _device(case) != here["device"]
            ]
            found["cases"] = [*kept, measure(name, method, args)]
            save(args.out, found, tables(found["cases"]))


if __name__ == "__main__":
    main()
