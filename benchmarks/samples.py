"""SS-CAM with samples that no longer matter left out: error against passes.

    python benchmarks/samples.py OUT
    python benchmarks/samples.py OUT --network squeezenet1_1 --screening 0.15

scores the channels of one object of each bundled scene, or of the class that a network
predicts for photographs, under many samples of noise, and plays parts of them to the
package's own plans: 35 samples, and as many or more with a `tolerance`. Each map is
compared with the one of all samples outside of its part. `--screening` takes a share of
the channels only. `CAPTUM_ISCAM_REALDATA` names the folder with networks and
photographs, see `photographs.py`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from figures import save
from photographs import as_input, network, photographs
from torch import Tensor, nn

from captum_iscam.attr._base import LayerScoreMethod
from captum_iscam.attr._combine import relative_error
from captum_iscam.attr._engine import Channels
from captum_iscam.attr._noise import GaussianNoise
from captum_iscam.attr._plans import Weights
from captum_iscam.attr._sampling import NoisySamples
from captum_iscam.attr._screening import most_shown
from captum_iscam.demo import load_network, load_scenes, preprocess

USUAL = 35
PART = 35
"""Pairs of samples that a plan may be played."""


@dataclass
class Trial:
    """How samples are taken, and what came of it.

    Attributes:
        n_samples (int): The most of a channel.
        tolerance (float, optional): At which a channel is sampled no more.
        errors (list[float]): Of each map, relative to the reference.
        deltas (list[float]): What each map says of its own error.
        passes (int): What all of them cost.
    """

    n_samples: int
    tolerance: float | None = None
    errors: list[float] = field(default_factory=list)
    deltas: list[float] = field(default_factory=list)
    passes: int = 0


def trials() -> list[Trial]:
    """Returns all samples first, then what may take fewer passes."""
    found = [Trial(USUAL)]
    found += [Trial(USUAL, tolerance) for tolerance in (0.005, 0.01, 0.02, 0.05)]
    more = [(n, tolerance) for n in (50, 70) for tolerance in (0.01, 0.02, 0.03)]
    return found + [Trial(*one) for one in more]


class Played:
    """Channels whose samples were taken before, and the noise they are asked with."""

    def __init__(self, channels: Channels, rounds: Tensor) -> None:
        self._channels = channels
        self._rounds = rounds
        self._place = {tuple(p): i for i, p in enumerate(channels.varying.tolist())}
        self._next = -1
        self.passes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channels, name)

    def expect(self, passes: int) -> None:
        """Shows nothing."""

    def draw(self, inputs: object) -> None:
        """Goes on to the next round."""
        self._next += 1

    def increase(
        self, pairs: Tensor, strengths: Tensor, noise: object, signs: Sequence[float]
    ) -> Tensor:
        """Returns what the channels scored in this round."""
        self.passes += strengths.numel()
        rows = torch.tensor([self._place[tuple(pair)] for pair in pairs.tolist()])
        return self._rounds[self._next, : len(signs), rows].T


class Trying:
    """A plan that takes all samples, and plays parts of them to the plans on trial."""

    def __init__(
        self, found: list[Trial], rounds: int, stdevs: float, share: float | None
    ) -> None:
        self._found = found
        self._rounds = rounds
        self._stdevs = stdevs
        self._share = share

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights under all samples."""
        if self._share is not None:
            (example,) = channels.of_examples()
            chosen = example.rows[most_shown(example, self._share)]
            channels.varying = channels.varying[chosen]
        rounds = self._taken(channels)
        for start in range(0, self._rounds - PART + 1, PART):
            part = slice(start, start + PART)
            others = torch.cat([rounds[:start], rounds[start + PART :]])
            reference = self._map(channels, channels.scatter(others.mean((0, 1))))
            for trial in self._found:
                self._try(trial, Played(channels, rounds[part]), reference)
        mean = rounds.mean((0, 1))
        return Weights(channels.scatter(mean), torch.zeros_like(channels.nothing))

    def _taken(self, channels: Channels) -> Tensor:
        """Returns what each channel scores, `(rounds, 2, P)`."""
        generator = torch.Generator().manual_seed(0)
        noise = GaussianNoise("input", (self._stdevs,), generator)
        ones, found = torch.ones(len(channels.varying), 2), []
        for _ in range(self._rounds):
            noise.draw(channels.masked)
            both = channels.increase(channels.varying, ones, noise, (1.0, -1.0))
            found.append(both.T)
        return torch.stack(found)

    def _try(self, trial: Trial, played: Played, reference: Tensor) -> None:
        plan = NoisySamples(trial.n_samples, lambda _: played, trial.tolerance)
        weights = plan.weigh(played)
        found = self._map(played, weights.values)
        trial.errors.append(float((found - reference).norm() / reference.norm()))
        delta = relative_error(weights.error, found)
        trial.deltas.append(float(delta * found.norm() / reference.norm()))
        trial.passes += played.passes

    @staticmethod
    def _map(channels: Any, weights: Tensor) -> Tensor:
        flat = channels.activations[0].flatten(1)
        return (weights[0] @ flat).relu().unsqueeze(0)


class Tried(LayerScoreMethod):
    """Explains by any plan."""

    def attribute(self, inputs: Tensor, target: int, plan: Trying) -> None:
        """Carries out the plan."""
        self._attribute(
            inputs,
            target,
            None,
            False,
            True,
            baselines=None,
            channel_softmax=False,
            internal_batch_size=None,
            show_progress=False,
            plan=plan,
        )


def subjects(args: argparse.Namespace) -> Iterator[tuple[nn.Module, nn.Module, Tensor]]:
    """Yields model, layer and input."""
    if args.network is None:
        model = load_network()
        for scene in load_scenes()[: args.images]:
            yield model, model.features, preprocess(scene.image)
        return
    model, layer = network(args.network)
    for file in photographs(args.images):
        yield model, layer, as_input(file)


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--network", help="the bundled one unless told")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4 * PART, help="of a pair each")
    parser.add_argument("--stdevs", type=float, default=0.2)
    parser.add_argument("--screening", type=float)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = trials()
    plan = Trying(found, args.rounds, args.stdevs, args.screening)
    for model, layer, x in subjects(args):
        with torch.no_grad():
            target = int(model(x).argmax())
        Tried(model, layer).attribute(x, target, plan)
        print(f"{len(found[0].errors)} maps of each", flush=True)
    figures = [figures_of(trial, found[0]) for trial in found]
    save(args.out, figures, table(figures))


def figures_of(trial: Trial, usual: Trial) -> dict[str, Any]:
    """Returns what a plan costs and how far off its maps are."""
    both = zip(trial.errors, usual.errors, strict=True)
    held = [e <= d for e, d in zip(trial.errors, trial.deltas, strict=True)]
    return {
        "n_samples": trial.n_samples,
        "tolerance": trial.tolerance,
        "error": statistics.mean(trial.errors),
        "of_usual": statistics.median(mine / other for mine, other in both),
        "passes": trial.passes / usual.passes,
        "held": statistics.mean(held),
        "errors": trial.errors,
    }


def table(figures: list[dict[str, Any]]) -> str:
    """Returns the figures as a Markdown table."""
    count = len(figures[0]["errors"])
    lines = [
        f"| `n_samples` | `tolerance` | error, mean of {count} | of that of {USUAL} "
        f"samples, median | passes of {USUAL} samples' | delta holds |",
        "|---" * 6 + "|",
    ]
    for one in figures:
        cells = [
            str(one["n_samples"]),
            str(one["tolerance"]),
            f"{100 * one['error']:.2f} %",
            f"{one['of_usual']:.2f}",
            f"{one['passes']:.2f}",
            f"{100 * one['held']:.0f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
