"""SS-CAM with samples left out and foretold: error against passes.

    python benchmarks/samples.py OUT --stdevs 0.2 --rounds 140
    python benchmarks/samples.py OUT --network squeezenet1_1 --images 15 --keep FOLDER

scores the channels of one object of each bundled scene, or of the class that a network
predicts for photographs, under many samples of noise, and plays parts of them to the
package's own plans: 35 samples, and as many or more with a `tolerance`. Each map is
compared with the one of all samples outside of its part, and the variance of that is
taken off. `--keep` names a folder where scores are kept and found again.
`CAPTUM_ISCAM_REALDATA` names the folder with networks and photographs, see
`photographs.py`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import isfinite, nan
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
from captum_iscam.demo import load_network, load_scenes, preprocess

USUAL = 35
ROWS = 8
"""Inputs in a pass of a compiled model."""


@dataclass
class Trial:
    """How samples are taken, and what came of it.

    Attributes:
        n_samples (int): The most of a channel.
        tolerance (float, optional): Error of the map that is good enough.
        squares (list[list[float]]): Squared errors of each image's maps, relative to
            the reference, less what the reference is expected to be off by itself.
        apart (list[list[float]]): From the map of all of the same samples.
        deltas (list[list[float]]): What each map says of its own error.
        passes (list[list[int]]): What each map cost.
    """

    n_samples: int
    tolerance: float | None = None
    squares: list[list[float]] = field(default_factory=list)
    apart: list[list[float]] = field(default_factory=list)
    deltas: list[list[float]] = field(default_factory=list)
    passes: list[list[int]] = field(default_factory=list)

    @property
    def maps(self) -> int:
        """How many maps were made."""
        return sum(map(len, self.squares))


def trials() -> list[Trial]:
    """Returns all samples first, then what may take fewer passes."""
    found = [Trial(USUAL)]
    found += [Trial(USUAL, tolerance) for tolerance in (0.001, 0.02, 0.05, 0.1)]
    return found + [Trial(n, 0.001) for n in (42, 50)]


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

    def noise(self, inputs: object) -> Played:
        """Returns itself, which draws the rounds."""
        return self

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
    """A plan that takes all samples, and plays parts of them to the plans on trial.

    Args:
        found (list[Trial]): What is tried.
        rounds (int): How many pairs of samples are taken.
        noise (GaussianNoise): Where they come from.
        kept (Path, optional): Holds what the channels scored, or is to hold it.
    """

    def __init__(
        self, found: list[Trial], rounds: int, noise: GaussianNoise, kept: Path | None
    ) -> None:
        self._found = found
        self._rounds = rounds
        self._noise = noise
        self._kept = kept

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights under all samples."""
        rounds = self._taken(channels)
        for trial in self._found:
            for figures in (trial.squares, trial.apart, trial.deltas, trial.passes):
                figures.append([])
            size = -(-trial.n_samples // 2)
            for start in range(0, len(rounds) - size + 1, size):
                part = slice(start, start + size)
                others = torch.cat([rounds[:start], rounds[start + size :]])
                self._try(trial, channels, rounds[part], self._map(channels, others))
        mean = rounds.mean((0, 1))
        return Weights(channels.scatter(mean), torch.zeros_like(channels.nothing))

    def _taken(self, channels: Channels) -> Tensor:
        """Returns what each channel scores, `(rounds, 2, P)`."""
        if self._kept and self._kept.is_file():
            kept: Tensor = torch.load(self._kept, weights_only=True)
            if len(kept) < self._rounds:
                raise SystemExit(f"{self._kept} has {len(kept)} rounds. Delete it.")
            return kept[: self._rounds]
        ones, found = torch.ones(len(channels.varying), 2), []
        for _ in range(self._rounds):
            self._noise.draw(channels.masked)
            both = channels.increase(channels.varying, ones, self._noise, (1.0, -1.0))
            found.append(both.T)
        rounds = torch.stack(found)
        if self._kept:
            torch.save(rounds, part := self._kept.with_suffix(".part"))
            part.rename(self._kept)
        return rounds

    def _try(
        self,
        trial: Trial,
        channels: Channels,
        part: Tensor,
        reference: tuple[Tensor, float],
    ) -> None:
        found = []
        for tolerance in (None, trial.tolerance):
            played = Played(channels, part)
            plan = NoisySamples(trial.n_samples, played.noise, tolerance)
            weights = plan.weigh(played)
            found.append(_maps(channels, channels.gather(weights.values)).relu())
        whole, mine = found
        exact, off = reference
        size = float(exact.norm()) or nan
        square = (float((mine - exact).norm()) ** 2 - off) / size**2
        trial.squares[-1].append(square)
        trial.apart[-1].append(float((mine - whole).norm()) / size)
        delta = relative_error(weights.error.cpu(), mine.unsqueeze(0))
        trial.deltas[-1].append(float(delta) * float(mine.norm()) / size)
        trial.passes[-1].append(played.passes)

    @staticmethod
    def _map(channels: Channels, rounds: Tensor) -> tuple[Tensor, float]:
        """Returns the map of many rounds, and its expected squared error."""
        of_each = _maps(channels, rounds.mean(1).double())
        mean = of_each.mean(0)
        moves = (of_each - mean)[:, mean > 0]
        count = len(moves)
        return mean.relu(), float(moves.square().sum()) / count / (count - 1)


def _maps(channels: Channels, weights: Tensor) -> Tensor:
    """Returns `sum_k a_k A_k` for weights `(..., P)`, in double precision."""
    flat = channels.activations[0].flatten(1)[channels.varying[:, 1]]
    return weights.double() @ flat.double()


class Tried(LayerScoreMethod):
    """Explains by any plan."""

    def attribute(
        self, inputs: Tensor, target: int, plan: Trying, rows: int | None
    ) -> None:
        """Carries out the plan."""
        self._attribute(
            inputs,
            target,
            None,
            False,
            True,
            baselines=None,
            channel_softmax=False,
            internal_batch_size=rows,
            show_progress=False,
            plan=plan,
        )


class Compiled(nn.Module):
    """A model that is compiled for one number of inputs; a single one runs as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._fast = torch.compile(model, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the model makes of the inputs, filled up to that number."""
        if len(x) == 1:
            return self.model(x)
        full = x.new_zeros(ROWS, *x.shape[1:])
        full = full.contiguous(memory_format=torch.channels_last)
        full[: len(x)] = x
        return self._fast(full)[: len(x)]


def subjects(
    args: argparse.Namespace,
) -> Iterator[tuple[nn.Module, nn.Module, str, Tensor]]:
    """Yields model, layer, name and input."""
    if args.network is None:
        model = load_network()
        for number, scene in enumerate(load_scenes()[: args.images]):
            yield model, model.features, f"scene_{number}", preprocess(scene.image)
        return
    model, layer = network(args.network)
    if args.compile:
        torch._inductor.config.freezing = True
        model = Compiled(model).eval()
    for file in photographs(args.images):
        yield model, layer, f"{args.network}_{file.stem}", as_input(file)


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--network", help="the bundled one unless told")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=54, help="of a pair each")
    parser.add_argument("--stdevs", type=float, help="the package's rule unless told")
    parser.add_argument("--keep", type=Path, help="folder for what the channels score")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="faster, after a minute")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    found = trials()
    stdevs = None if args.stdevs is None else (args.stdevs,)
    for number, (model, layer, name, x) in enumerate(subjects(args)):
        with torch.no_grad():
            target = int(model(x).argmax())
        generator = torch.Generator().manual_seed(number)
        noise = GaussianNoise("input", stdevs, generator)
        usual = "" if stdevs is None else f"_{args.stdevs}"
        kept = args.keep / f"{name}{usual}.pt" if args.keep else None
        plan = Trying(found, args.rounds, noise, kept)
        Tried(model, layer).attribute(x, target, plan, ROWS if args.compile else None)
        print(f"{name}: {found[0].maps} maps by now", flush=True)
        figures = [figures_of(trial, found[0]) for trial in found]
        save(args.out, figures, table(figures))


def figures_of(trial: Trial, usual: Trial) -> dict[str, Any]:
    """Returns what a plan costs and how far off its maps are.

    Where noise leaves a map of zeros it has no relative error, and is left out.
    """
    of_maps = zip(*map(chain.from_iterable, (trial.squares, trial.deltas)), strict=True)
    known = [(square, delta) for square, delta in of_maps if isfinite(square)]
    squares = [square for square, _ in known]
    return {
        "n_samples": trial.n_samples,
        "tolerance": trial.tolerance,
        "maps": len(known),
        "error": rms(squares),
        "median": rms([statistics.median(squares)]),
        "apart": statistics.median(filter(isfinite, chain(*trial.apart))),
        "passes": passes_of(trial) / passes_of(usual),
        "held": statistics.mean(square <= delta**2 for square, delta in known),
        "squares": trial.squares,
        "deltas": trial.deltas,
    }


def passes_of(trial: Trial) -> float:
    """Returns what a map costs, on the average over those that have an error."""
    of_maps = zip(*map(chain.from_iterable, (trial.passes, trial.squares)), strict=True)
    return statistics.mean(passes for passes, square in of_maps if isfinite(square))


def rms(squares: Sequence[float]) -> float:
    """Returns the root of the mean of squared errors, which may be below zero."""
    return max(statistics.mean(squares), 0.0) ** 0.5


def table(figures: list[dict[str, Any]]) -> str:
    """Returns the figures as a Markdown table."""
    lines = [
        "| `n_samples` | `tolerance` | maps | error, rms | median | from all samples' "
        f"map, median | passes of {USUAL} samples' | delta holds |",
        "|---" * 8 + "|",
    ]
    for one in figures:
        cells = [
            str(one["n_samples"]),
            str(one["tolerance"]),
            str(one["maps"]),
            f"{100 * one['error']:.2f} %",
            f"{100 * one['median']:.2f} %",
            f"{100 * one['apart']:.2f} %",
            f"{one['passes']:.2f}",
            f"{100 * one['held']:.0f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
