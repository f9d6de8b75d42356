"""The methods that are timed: ours, torch-cam's and grad-cam's, and raw passes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch._inductor.config
from torch import Tensor, nn

from captum_iscam import (
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam._utils.hooks import count_passes

OURS = {
    "score-cam": LayerScoreCAM,
    "is-cam": LayerIntegratedScoreCAM,
    "ss-cam": LayerSmoothedScoreCAM,
}
TORCHCAM = {"score-cam": "ScoreCAM", "is-cam": "ISCAM", "ss-cam": "SSCAM"}
BATCHES = {"cpu": (4, 8, 16, 32), "cuda": (32, 64, 128, 256, 512)}
Explain = Callable[[Tensor, int], Tensor]


@dataclass
class Contender:
    """Something that explains one image, and what it took.

    Attributes:
        name (str): Its name in tables.
        run (Callable): Explains an image's class.
        warm (bool): Whether it runs once before it is timed.
        seconds (list[float]): What each run took.
        rows (int): Inputs the model saw in one run.
        answer (Tensor, optional): The map of the last run.
    """

    name: str
    run: Explain
    warm: bool = False
    seconds: list[float] = field(default_factory=list)
    rows: int = 0
    answer: Tensor | None = None


def ours(
    method: str,
    model: nn.Module,
    layer: nn.Module,
    /,
    autocast: bool = False,
    compiled: bool = False,
    score: str = "softmax",
    **options: Any,
) -> Explain:
    """Returns our method, under bfloat16 autocast or with a compiled model on request.

    The model is compiled as it first runs, with batch norm folded away.
    """
    scored: Any = model
    if compiled:
        torch._inductor.config.freezing = True
        scored = torch.compile(model)

    def run(x: Tensor, target: int) -> Tensor:
        explain = OURS[method](scored, layer, score=score)
        half = torch.autocast(x.device.type, torch.bfloat16)
        with half if autocast else nullcontext():
            return explain.attribute(x, target=target, **options)

    return run


def torchcam(
    method: str, model: nn.Module, layer: nn.Module, **options: Any
) -> Explain:
    """Returns torch-cam's method at its defaults."""
    import torchcam.methods

    def run(x: Tensor, target: int) -> Tensor:
        kind = getattr(torchcam.methods, TORCHCAM[method])
        with kind(model, target_layer=layer, **options) as extractor:
            with torch.no_grad():
                scores = model(x)
            return extractor(target, scores)[0]

    return run


def grad_cam(model: nn.Module, layer: nn.Module) -> Explain:
    """Returns pytorch-grad-cam's Score-CAM at its defaults."""
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def run(x: Tensor, target: int) -> Tensor:
        with ScoreCAM(model=model, target_layers=[layer]) as extractor:
            targets = [ClassifierOutputTarget(target)]
            return torch.from_numpy(extractor(input_tensor=x, targets=targets))

    return run


def raw(model: nn.Module, rows: int, batch: int, channels_last: bool) -> Explain:
    """Returns bare forward passes of as many inputs."""
    layout = torch.channels_last if channels_last else torch.contiguous_format

    @torch.no_grad()
    def run(x: Tensor, target: int) -> Tensor:
        answer = x
        for start in range(0, rows, batch):
            few = x.expand(min(batch, rows - start), -1, -1, -1)
            answer = model(few.contiguous(memory_format=layout))
        return answer

    return run


def rows_of(run: Explain, model: nn.Module, x: Tensor, target: int) -> int:
    """Returns how many inputs the model sees in one run."""
    with count_passes(model) as passes:
        run(x, target)
    return passes.rows
