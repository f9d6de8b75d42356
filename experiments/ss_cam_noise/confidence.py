"""What the noise of SS-CAM leaves of a network's confidence, before any channel.

    python -m experiments.ss_cam_noise.confidence OUT.md --photographs 40

adds to whole photographs the noise that SS-CAM adds to masked ones and lists, for each
network and deviation, the confidence that is left as a share of that without noise: the
mean over photographs, and in brackets on how many of them less than a hundredth is
left. A masked photograph shows less than the whole, so this is the most that the scores
of channels can be.
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor, nn

from captum_iscam.attr._masking import GaussianNoise
from captum_iscam.benchmark.markdown import markdown_table
from experiments.quality.photographs import as_input, asked, network, photographs
from experiments.quality.variants import DEVIATIONS

SAMPLES = 4
Setting = tuple[str, float | None]


def settings() -> list[Setting]:
    """Returns the noise of `variants.py`, and more of it."""
    more = {"input": (0.5, 1.0), "mask": ()}
    return [
        (place, size)
        for place, sizes in DEVIATIONS.items()
        for size in sorted((*sizes, *more[place]), key=lambda x: (x is None, x))
    ]


@torch.no_grad()
def left(model: nn.Module, x: Tensor, setting: Setting) -> float:
    """Returns the share of the confidence that noisy copies of a photograph keep."""
    place, size = setting
    generator = torch.Generator().manual_seed(0)
    noise = GaussianNoise(place, None if size is None else (size,), generator)
    copies = []
    for _ in range(SAMPLES // 2):
        noise.draw([x])
        field = noise.field(0, lambda: x, x)
        copies += [x + field, x - field]
    scores = model(torch.cat([x, *copies])).softmax(1)
    target = int(scores[0].argmax())
    return float(scores[1:, target].mean() / scores[0, target])


def title(setting: Setting) -> str:
    """Returns what a setting is called in the table."""
    place, size = setting
    return f"noise on the {place}, " + (
        "authors' rule" if size is None else f"{size:g}"
    )


def main() -> None:
    """Measures and writes the table."""
    args = asked(__doc__)
    inputs = [as_input(file) for file in photographs(args.photographs)]
    shares = {}
    for name in args.networks:
        model, _ = network(name)
        for setting in settings():
            shares[name, setting] = [left(model, x, setting) for x in inputs]
        print(name, flush=True)
    lines = []
    for setting in settings():
        cells = [cell(shares[name, setting]) for name in args.networks]
        lines.append([title(setting), *cells])
    heading = [f"{len(inputs)} photographs", *args.networks]
    args.out.write_text(markdown_table(heading, lines, left=None) + "\n")


def cell(found: list[float]) -> str:
    """Returns the mean share and how many are below a hundredth."""
    lost = sum(share < 0.01 for share in found)
    return f"{statistics.mean(found):.0%} ({lost})"


if __name__ == "__main__":
    main()
