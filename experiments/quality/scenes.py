"""Measures every method on the bundled scenes: `python -m experiments.quality.scenes`.

Writes the table of the page on choosing a method, `scenes.md`, in a few minutes of one
core. Seconds are those of the machine it ran on; all else is the same everywhere.
"""

import platform
import time
from pathlib import Path

import torch
from captum import __version__ as captum_version

from captum_iscam import __version__
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.demo import load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS
from captum_iscam.metrics import (
    ChannelMean,
    RandomMap,
    average_drop,
    deletion,
    energy_pointing_game,
    insertion,
    pointing_game,
)

OUT = Path(__file__).parents[1] / "results" / "scenes.md"
MEASURED = [name for name, method in METHODS.items() if not method.control]
HEADING = (
    *("method", "drop, keep=0.5 (%) ↓", "insertion ↑", "deletion ↓"),
    *("energy ↑", "pointing ↑", "forward passes", "CPU seconds"),
)


class Counted(torch.nn.Module):
    """A network that counts the inputs it is shown."""

    def __init__(self, network):
        super().__init__()
        self.network, self.shown = network, 0

    def forward(self, inputs):
        self.shown += len(inputs)
        return self.network(inputs)


def explainers(model, layer):
    """Yields a title and a function of inputs and target for each line."""
    for name in MEASURED:
        method = METHODS[name]
        yield method.title, lambda x, c, m=method: m.attribute(model, layer, x, c)
    mean, noise = ChannelMean(model, layer), torch.Generator().manual_seed(0)
    chance = RandomMap(model, layer, generator=noise)
    yield "*mean of the channels*", mean.attribute
    yield "*random map*", chance.attribute


def judge(model, inputs, target, mask, attributions):
    """Returns the five values of one map."""
    shown = (model, inputs, attributions, target)
    return [
        average_drop(*shown, keep=0.5),
        insertion(*shown),
        deletion(*shown),
        energy_pointing_game(attributions, mask),
        pointing_game(attributions, mask),
    ]


def measure(explain, model):
    """Returns mean values over the first object of each scene, and the mean cost."""
    lines = []
    for scene in load_scenes():
        inputs = preprocess(scene.image)
        target, mask = scene.labels[0], scene.masks[:1]
        before, began = model.shown, time.process_time()
        attributions = explain(inputs, target)
        cost = [model.shown - before, time.process_time() - began]
        values = judge(model.network, inputs, target, mask, attributions)
        lines.append([float(value) for value in values] + cost)
    return torch.tensor(lines).mean(0).tolist()


def main():
    torch.set_num_threads(1)
    model = Counted(load_network()).eval()
    formats = ("{:.1f}", "{:.3f}", "{:.3f}", "{:.2f}", "{:.2f}", "{:.0f}", "{:.2f}")
    rows = []
    for title, explain in explainers(model, model.network.features):
        values = measure(explain, model)
        cells = [
            form.format(value) for form, value in zip(formats, values, strict=True)
        ]
        rows.append([title, *cells])
        print(title, *cells, flush=True)
    versions = f"captum_iscam {__version__}, Captum {captum_version}"
    text = markdown_table(HEADING, rows, left=None) + (
        f"\n\n*Made by `python -m experiments.quality.scenes` with {versions}, torch "
        f"{torch.__version__}, one core ({platform.machine()}).*\n"
    )
    OUT.write_text(text)


if __name__ == "__main__":
    main()
