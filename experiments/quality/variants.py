"""A benchmark of readings and settings that have no name on the command line.

    python -m experiments.quality.variants --method is-cam,readings ...
    torchrun --nproc-per-node=2 -m experiments.quality.variants --method noise ...

takes the options of `captum-iscam benchmark` and knows more methods: `readings`, the
ways in which Score-CAM and IS-CAM are printed, coded or shipped elsewhere, and `noise`,
SS-CAM with deviations from small to that of the authors' code, in both forms.
"""

from __future__ import annotations

import sys

from captum_iscam import (
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam.cli.main import main
from captum_iscam.methods import METHODS, Method

_SCORED = ("internal_batch_size", "show_progress")
_NOISY = ("n_samples", "seed", *_SCORED)
DEVIATIONS = {"input": (0.02, 0.05, 0.1, 0.2, None), "mask": (0.05, 0.2, 0.5, 2.0)}


class LogitScoreCAM(LayerScoreCAM):
    """Score-CAM of logits."""

    def __init__(
        self,
        forward_func,
        layer,
        device_ids=None,
        *,
        score="identity",
        reshape_transform=None,
    ):
        super().__init__(
            forward_func,
            layer,
            device_ids,
            score=score,
            reshape_transform=reshape_transform,
        )


class LogitIntegratedScoreCAM(LayerIntegratedScoreCAM):
    """IS-CAM of logits."""

    def __init__(self, forward_func, layer, device_ids=None, *, score="identity"):
        super().__init__(forward_func, layer, device_ids, score=score)


READINGS = {
    "is-cam-recurrence": Method(
        "IS-CAM, printed recurrence",
        LayerIntegratedScoreCAM,
        _SCORED,
        {"method": "recurrence", "n_steps": 10},
    ),
    "is-cam-sum": Method(
        "IS-CAM, authors' sum",
        LayerIntegratedScoreCAM,
        _SCORED,
        {"method": "riemann_right", "n_steps": 10},
    ),
    "is-cam-torchcam": Method(
        "IS-CAM, torch-cam's strengths",
        LogitIntegratedScoreCAM,
        _SCORED,
        {"method": "accumulated", "n_steps": 10, "channel_softmax": True},
    ),
    "score-cam-algorithm-1": Method(
        "Score-CAM, Algorithm 1", LogitScoreCAM, _SCORED, {"channel_softmax": True}
    ),
    "score-cam-channel-softmax": Method(
        "Score-CAM, probability and channel softmax",
        LayerScoreCAM,
        _SCORED,
        {"channel_softmax": True},
    ),
}


def _noisy(noise: str, stdevs: float | None) -> Method:
    size = "authors' rule" if stdevs is None else f"{stdevs:g}"
    return Method(
        f"SS-CAM, noise on the {noise}, {size}",
        LayerSmoothedScoreCAM,
        _NOISY,
        {"noise": noise, "stdevs": stdevs},
    )


NOISE = {
    f"ss-cam-{noise}-{'rule' if stdevs is None else stdevs}": _noisy(noise, stdevs)
    for noise, deviations in DEVIATIONS.items()
    for stdevs in deviations
}
GROUPS = {"readings": READINGS, "noise": NOISE}


def spelled_out(words: list[str]) -> list[str]:
    """Returns the command line with the names of a group in the group's place."""
    METHODS.update(READINGS | NOISE)
    place = words.index("--method") + 1 if "--method" in words else len(words)
    names = [
        name
        for word in "".join(words[place : place + 1]).split(",")
        for name in GROUPS.get(word, [word])
    ]
    return [*words[:place], ",".join(names), *words[place + 1 :]]


if __name__ == "__main__":
    sys.exit(main(["benchmark", *spelled_out(sys.argv[1:])]))
