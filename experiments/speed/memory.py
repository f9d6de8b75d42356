"""Peak memory of every method over that of one bare chunk, each in its own process.

    python -m experiments.speed.memory OUT --network resnet50

A process first runs the model on one chunk of inputs, as large as our methods' own,
until its peak stands still, then the method on one photograph; reported is by how much
the peak rises, the median of several processes. Score-CAM of torch-cam and grad-cam is
measured the same way. `--growth` instead explains many images in one process and
reports how the memory in use goes from the first hundred to the last.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from captum_iscam._utils.batching import Chunks
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.demo import CLASSES, draw_scenes, load_network, preprocess
from experiments._common import environment, save
from experiments.quality.photographs import as_input, network, photographs
from experiments.speed.contenders import OURS, grad_cam, ours, raw, torchcam

# To score a tenth of the channels shortens the time and not the passes' memory. The
# regression holds most where most was scored before it, as IS-CAM by default does.
OPTIONS: dict[str, dict[str, object]] = {
    "score-cam": {},
    "is-cam": {},
    "score-cam, screening=0.1": {"screening": 0.1},
    "is-cam, screening=0.1": {"screening": 0.1},
    "is-cam, n_steps=3, screening=0.1": {"screening": 0.1, "n_steps": 3},
    "ss-cam, screening=0.1": {"screening": 0.1, "n_samples": 4, "stdevs": 0.5},
}
PEERS = {
    "torch-cam, score-cam": lambda model, layer: torchcam("score-cam", model, layer),
    "grad-cam, score-cam": grad_cam,
}
MEGABYTE = 2**20


def peak(device: str) -> float:
    """Returns the most memory the process has had so far, in MB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_use() -> float:
    """Returns the memory the process has now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEGABYTE


def rise(name: str, label: str, device: str) -> dict[str, float]:
    """Returns the peak of the bare chunk and how much the method adds to it."""
    model, layer = network(name)
    model.to(device)
    x = as_input(photographs(1)[0]).to(device)
    size = Chunks(None, [x]).size
    for _ in range(4):
        raw(model, size, size, channels_last=True)(x, 0)
    bare = peak(device)
    with torch.no_grad():
        target = int(model(x).argmax())
    if label in PEERS:
        PEERS[label](model, layer)(x, target)
    else:
        method = label.partition(",")[0]
        ours(method, model, layer, **OPTIONS[label])(x, target)
    return {"bare": bare, "added": peak(device) - bare}


def growth(count: int) -> list[float]:
    """Returns the memory in use after every hundred images, in MB."""
    model = load_network()
    explain = OURS["is-cam"](model, model.features)
    images = [preprocess(scene.image) for scene in draw_scenes(8)]
    found = []
    for number in range(count):
        image = images[number % len(images)]
        explain.attribute(image, target=number % len(CLASSES), n_steps=1)
        if (number + 1) % 100 == 0:
            found.append(in_use())
    return found


def answer(command: list[str]) -> dict[str, float]:
    """Returns what one process prints at its end."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(name: str, figures: dict[str, list[dict[str, float]]]) -> str:
    """Returns the medians as a Markdown table, and all values of what was added."""
    heading = [f"method on {name}", "bare chunk, MB", "more, MB", "every run"]
    lines = []
    for label, runs in figures.items():
        bare = statistics.median(run["bare"] for run in runs)
        added = [run["added"] for run in runs]
        every = ", ".join(f"{value:.0f}" for value in added)
        middle = statistics.median(added)
        lines.append([label, f"{bare:.0f}", f"{middle:.0f}", every])
    return markdown_table(heading, lines, left=None)


def main() -> None:
    """Measures in processes of their own and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each")
    parser.add_argument("--growth", type=int, metavar="IMAGES")
    parser.add_argument("--only", choices=[*OPTIONS, *PEERS], help="run it here")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu"
    )
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.growth:
        found = growth(args.growth)
        lines = [[str(100 * (i + 1)), f"{used:.1f}"] for i, used in enumerate(found)]
        heading = ["images explained", "in use, MB"]
        save(args.out, found, markdown_table(heading, lines, left=None))
        return
    if args.only:
        print(json.dumps(rise(args.network, args.only, args.device)))
        return
    figures = {}
    for label in (*OPTIONS, *PEERS):
        command = [
            sys.executable,
            "-m",
            "experiments.speed.memory",
            "-",
            "--network",
            args.network,
        ]
        command += ["--device", args.device, "--only", label]
        figures[label] = [answer(command) for _ in range(args.repeats)]
        print(label, figures[label], flush=True)
    found = {"network": args.network, "methods": figures}
    found["environment"] = environment(args.device)
    save(args.out, found, table(args.network, figures))


if __name__ == "__main__":
    main()
