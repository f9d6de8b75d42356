"""What else was tried for IS-CAM left to itself, on the same recorded outputs.

    python benchmarks/plans_tried.py FOLDER OUT

reads what `record_outputs.py` wrote for all channels, carries out the plan that ships
and its variants, and tabulates error, passes and how often delta holds as `passes.py`
does. A variant changes numbers of the plan, or what is done with its sample.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from figures import save
from passes import POINTS, Recording, Rows, best, compare, read, table
from torch import Tensor

from captum_iscam.attr import _estimates, _refinement
from captum_iscam.attr._curves import radau_points
from captum_iscam.attr._engine import Channels
from captum_iscam.attr._estimates import ratio_of
from captum_iscam.attr._plans import Weights
from captum_iscam.attr._refinement import POINTS as FOLLOWED_AT
from captum_iscam.attr._refinement import Refinement, _Example
from captum_iscam.attr.integrated_score_cam import TOLERANCE

CLOSE = 0.02
"""Strengths no further apart are taken for one."""


class ShownToo(_Example):
    """Shows the sample at the one strength, too, instead of reading it off a curve."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._asked = False

    def choose_to_show(self) -> bool:
        """Chooses the sample first."""
        if self._asked:
            return super().choose_to_show()
        self._asked = True
        self.chosen = self.followed.nonzero().squeeze(1)
        return True

    def take_values(self, values: Tensor) -> None:
        """Takes the values, and the ratio anew from those of the sample."""
        super().take_values(values)
        exact, shown = self._exact[self._drawn], self._shown[self._drawn]
        self._ratio = ratio_of(exact, shown, self._importance)


class AllPoints(ShownToo):
    """Follows further channels at all four points, though they were shown already."""

    @property
    def further(self) -> list[float]:
        """All points, but for one that was shown as good as already."""
        if min(abs(point - self.strength) for point in FOLLOWED_AT) <= CLOSE:
            return super().further
        return list(FOLLOWED_AT)


class NotByChance(_Example):
    """Lets each channel that was drawn stand for itself alone."""

    @property
    def _importance(self) -> Tensor:
        return self.channels.norms[self._drawn]


@dataclass(frozen=True)
class Variant:
    """The plan with other numbers, or with something else done for an example."""

    example: type[_Example] = _Example
    numbers: Mapping[str, object] = field(default_factory=dict)
    of_sample: Mapping[str, object] = field(default_factory=dict)
    tolerance: float = TOLERANCE

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the channels."""
        with (
            patch.multiple(_refinement, _Example=self.example, **self.numbers),
            patch.multiple(
                _estimates, **{"FEWEST": _estimates.FEWEST, **self.of_sample}
            ),
        ):
            return Refinement(self.tolerance).weigh(channels)


SMALLER = {"SAMPLED": 0.015, "FEWEST": 8}
VARIANTS = {
    "as it ships": Variant(),
    "drawn ones not weighed by chance": Variant(NotByChance),
    "sample of 1.5 %, at least 8": Variant(of_sample=SMALLER),
    "10 % more shown at a time": Variant(numbers={"MORE": 0.1}),
    "these three together": Variant(NotByChance, {"MORE": 0.1}, SMALLER),
    "sample of 3 %, at least 16": Variant(of_sample={"SAMPLED": 0.03, "FEWEST": 16}),
    "sample at three points": Variant(numbers={"POINTS": radau_points(3)}),
    "sample at five points": Variant(numbers={"POINTS": radau_points(5)}),
    "a quarter shown at the least": Variant(numbers={"SHOWN": 0.25}),
    "all shown": Variant(numbers={"SHOWN": 1.0}),
    "followed in steps of 1 %": Variant(numbers={"STEP": 0.01}),
    "followed in steps of 5 %": Variant(numbers={"STEP": 0.05}),
    "sample shown at the strength": Variant(ShownToo),
    "that, and further channels at all points": Variant(AllPoints),
    "the same, tolerance 0.013": Variant(AllPoints, tolerance=0.013),
}


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="without a suffix")
    args = parser.parse_args()
    every = [Recording.of(file) for file in args.folder.glob("*.pt")]
    found: Rows = defaultdict(lambda: defaultdict(list))
    for one in best([one for one in every if one.points <= POINTS and one.whole]):
        channels, fine = read(one)
        for label, variant in VARIANTS.items():
            found[label][one.network].append(compare(channels, variant, fine, 8))
    save(args.out, found, table(found))


if __name__ == "__main__":
    main()
