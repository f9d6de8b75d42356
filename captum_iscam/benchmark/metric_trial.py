"""Tries metrics from outside the package once, before a run begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.user_code import user_code
from captum_iscam.benchmark.metric_spec import MetricContext, MetricSpec


def check_returns(specs: Mapping[str, MetricSpec]) -> None:
    """Raises for a metric from outside the package that cannot be part of a run.

    It must return a number per example, and leave the network as it is.

    Each is tried once on an image of 32 x 32 pixels and a network of two classes. A
    metric that cannot judge those is left to the run.

    Raises:
        ValueError: If it returns anything else than a tensor `(N,)` of real numbers or
            `Curves`, or changes the network.
    """
    for spec in specs.values():
        if spec.is_own:
            continue
        # The caller's random numbers stay as they were.
        with torch.random.fork_rng(devices=[]):
            context = tiny_context()
            with spec.leaving_the_model(context.model):
                try:
                    with user_code():
                        found = spec.call(context)
                # It is the user's code, which may raise anything.
                except Exception:  # noqa: BLE001 - the run records it in the row
                    continue
        try:
            spec.check(found)
        except TypeError as error:
            raise ValueError(str(error)) from error


def tiny_context() -> MetricContext:
    """Returns one map of a small image on a small network."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2)).eval()
    maps = torch.rand(1, 1, 4, 4, generator=draw)

    def explain(inputs: Tensor, target: Any = None) -> Tensor:
        return maps.expand(len(inputs), -1, -1, -1)

    masks = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[..., 8:24, 8:24] = True
    return MetricContext(
        model=model,
        inputs=torch.rand(1, 3, 32, 32, generator=draw),
        attributions=maps,
        target=0,
        other_target=1,
        masks=masks,
        explanation_func=explain,
        cached_explanation_func=explain,
        seed=0,
        interventions=torch.rand(1, 2, 3, 32, 32, generator=draw),
        object_masks=torch.cat([masks, ~masks], 1),
    )
