"""On drawn scenes, whose objects are known, a method must beat the controls.

Each test fails where the order is reversed: the margin is measured in the direction
that the metric itself declares.
"""

from functools import cache, partial

import pytest
import torch

from captum_iscam import LayerIntegratedScoreCAM, metrics
from captum_iscam.demo import load_network, load_scenes, preprocess
from captum_iscam.metrics import ChannelMean, RandomMap


@cache
def scenes():
    """Network, three pictures, in each the object it is surest of, and its mask."""
    network = load_network()
    pictures = load_scenes()[:3]
    inputs = preprocess(torch.stack([scene.image for scene in pictures]))
    probabilities = network(inputs).softmax(1).detach()
    surest = [
        max(range(len(scene.labels)), key=lambda i: row[scene.labels[i]].item())
        for scene, row in zip(pictures, probabilities, strict=True)
    ]
    pairs = list(zip(pictures, surest, strict=True))
    targets = [scene.labels[i] for scene, i in pairs]
    return network, inputs, targets, torch.stack([scene.masks[i] for scene, i in pairs])


@cache
def method(name):
    network, *_ = scenes()
    builds = {
        "is-cam": LayerIntegratedScoreCAM,
        "channel mean": ChannelMean,
        "random": partial(RandomMap, generator=torch.Generator().manual_seed(0)),
    }
    return builds[name](network, network.features).attribute


@cache
def maps(name):
    _, inputs, targets, _ = scenes()
    return method(name)(inputs, targets)


def value(metric, name, options):
    """The mean of a metric over the pictures, for one method."""
    network, inputs, targets, masks = scenes()
    attributions = maps(name)
    if metric in ("coherency", "target_sensitivity", "sensitivity_max"):
        arguments = (method(name), inputs)
        arguments += (attributions, targets) if metric == "coherency" else (targets,)
    elif metric in ("complexity", "sparseness"):
        arguments = (attributions,)
    elif "pointing" in metric or metric in ("mask_iou", "top_k_intersection"):
        arguments = (attributions, masks)
    else:
        arguments = (network, inputs, attributions, targets)
    if metric in ("adcc", "arcc"):
        options = {**options, "explanation_func": method(name)}
    if metric == "win_rate":
        options = {**options, "rival": maps("channel mean")}
    if metric.startswith("road") or metric in ("arcc", "infidelity", "sensitivity_max"):
        options = {**options, "generator": torch.Generator().manual_seed(0)}
    return getattr(metrics, metric)(*arguments, **options).mean().item()


def advantage(metric, control, options):
    """How much better IS-CAM is than a control, in the metric's own direction."""
    difference = value(metric, "is-cam", options) - value(metric, control, options)
    return difference if getattr(metrics, metric).higher_is_better else -difference


HALF = {"keep": 0.5}
STEPS = {"steps": 14}
BLUR = {"steps": 14, "substrate": "blur"}


# Metric, options, least advantage over the random map and over the channel mean.
@pytest.mark.filterwarnings("ignore:explanation_func draws")
@pytest.mark.parametrize(
    ("metric", "options", "over_random", "over_mean"),
    [
        ("average_drop", HALF, 30, 20),
        ("average_increase", HALF, 40, 20),
        ("average_gain", HALF, 15, 15),
        ("win_rate", HALF, 30, 20),
        ("insertion", STEPS, 0.2, 0.03),
        ("deletion", STEPS, 0.04, 0.015),
        ("insertion", BLUR, 0.2, 0.04),
        ("deletion", BLUR, 0.06, 0.02),
        ("road", {}, 0.1, 0.025),
        ("energy_pointing_game", {}, 0.4, 0.1),
        ("pointing_game", {}, 0.5, 0.4),
        ("mask_iou", {}, 0.12, 0.1),
        ("top_k_intersection", {}, 0.4, 0.12),
        ("coherency", {}, 0.25, 0.01),
        ("adcc", {}, 0.2, 0.12),
        ("arcc", {}, 0.1, 0.05),
        ("single_deletion", {}, 0.2, 0.02),
        ("attainable_insertion", {"patches": 4}, 0.1, 0.02),
        ("attainable_deletion", {"patches": 4}, 0.1, 0.02),
        ("infidelity", {}, 0.005, 0.003),
    ],
)
def test_is_cam_beats_the_controls(metric, options, over_random, over_mean):
    assert advantage(metric, "random", options) > over_random
    assert advantage(metric, "channel mean", options) > over_mean


# What these ask of a map, one of the controls has by construction: the channel mean is
# as peaked and as steady as any map of the layer, and random maps differ for two
# classes as for one. They are read with other metrics, never alone.
# A class that is not in the picture, or a random network, may leave no map at all.
@pytest.mark.filterwarnings("ignore:The map is zero everywhere")
@pytest.mark.filterwarnings("ignore:explanation_func draws")
@pytest.mark.parametrize(
    ("metric", "control", "options", "least"),
    [
        ("complexity", "random", {}, 0.3),
        ("sparseness", "random", {}, 0.3),
        ("sensitivity_max", "random", {"n_perturb_samples": 1}, 0.3),
        ("target_sensitivity", "channel mean", {"other_target": 0}, 0.3),
    ],
)
def test_is_cam_beats_the_control_that_a_metric_can_tell(
    metric, control, options, least
):
    assert advantage(metric, control, options) > least


def test_the_map_multiplied_in_directly_does_not_tell_a_random_map():
    # A smooth random map dims the picture to half its contrast, which this network
    # bears well: why `keep` exists.
    assert advantage("average_drop", "random", {}) < 5
    assert advantage("average_drop", "random", HALF) > 30


@pytest.mark.filterwarnings("ignore:The map is zero everywhere")
@pytest.mark.filterwarnings("ignore:The maps of explanation_func are the same")
def test_is_cam_depends_on_the_head_and_the_channel_mean_does_not():
    network, inputs, targets, _ = scenes()

    ours, mean = (
        metrics.parameter_randomization(
            method(name),
            network,
            inputs[:2],
            targets[:2],
            layers=["head"],
            generator=torch.Generator().manual_seed(0),
        )
        for name in ("is-cam", "channel mean")
    )

    assert ours.rank_correlation.mean() < 0.8
    assert ours.ssim.mean() < 0.9
    torch.testing.assert_close(mean.rank_correlation, torch.ones(1, 2))
    torch.testing.assert_close(mean.ssim, torch.ones(1, 2))
