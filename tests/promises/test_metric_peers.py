"""Average drop, increase, insertion and deletion against torch-cam and grad-cam."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from captum_iscam.metrics import (
    arcc,
    average_drop,
    average_increase,
    deletion,
    insertion,
    road,
)


class FixedMaps:
    """What torch-cam asks of an extractor, with maps that are known."""

    def __init__(self, model, maps):
        self.model = model
        self._maps = maps

    def __call__(self, class_idx=None, scores=None, normalized=True, **kwargs):
        return [self._maps.squeeze(1)]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def small_model():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 6 * 8, 5)
    ).eval()


def scaled_maps(count, *size):
    """Maps that span 0 to 1 at the input's size, so that both scale them alike."""
    maps = torch.rand(count, 1, *size)
    maps[..., 0, 0], maps[..., -1, -1] = 0, 1
    return maps


def test_average_drop_and_increase_are_those_of_torchcam():
    metrics = pytest.importorskip("torchcam.metrics")
    model, images, maps = (
        small_model(),
        torch.randn(16, 3, 8, 10),
        scaled_maps(16, 4, 5),
    )
    theirs = metrics.ClassificationMetric(
        FixedMaps(model, maps), partial(torch.softmax, dim=1)
    )
    theirs.update(images, 2)

    drop = average_drop(model, images, maps, 2).mean() / 100
    increase = average_increase(model, images, maps, 2).mean() / 100

    summary = theirs.summary()
    assert drop.item() == pytest.approx(summary["avg_drop"], abs=1e-5)
    assert increase.item() == pytest.approx(summary["conf_increase"])
    assert 0 < increase < 1


@pytest.mark.parametrize("steps", [20, 10, 7])
@pytest.mark.parametrize("baseline", [None, 0.5])
def test_insertion_and_deletion_are_those_of_torchcam(steps, baseline):
    metrics = pytest.importorskip("torchcam.metrics")
    model, images, maps = small_model(), torch.randn(6, 3, 8, 10), scaled_maps(6, 4, 5)
    maps[2] = maps[2].round()  # ties
    theirs = metrics.DeletionInsertionMetric(
        FixedMaps(model, maps),
        partial(torch.softmax, dim=1),
        steps=steps,
        baseline=None if baseline is None else torch.full_like(images[:1], baseline),
    )
    theirs.update(images, [0, 1, 2, 3, 4, 0])

    # Its steps are of equal size, ceil(P / steps), but for a shorter last one.
    options = {"pixels_per_step": -(-80 // steps), "substrate": baseline}
    targets = [0, 1, 2, 3, 4, 0]
    deleted = deletion(model, images, maps, targets, **options).mean()
    inserted = insertion(model, images, maps, targets, **options).mean()

    summary = theirs.summary()
    assert deleted.item() == pytest.approx(summary["deletion_auc"], abs=1e-6)
    assert inserted.item() == pytest.approx(summary["insertion_auc"], abs=1e-6)


def soft(target):
    return lambda output: output.softmax(-1)[target]


def test_the_absolute_drop_is_that_of_grad_cam():
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    model, images, maps = small_model(), torch.randn(4, 3, 8, 10), scaled_maps(4, 8, 10)
    targets = [0, 4, 2, 1]

    theirs = metrics.DropInConfidence()(
        images, maps.squeeze(1).numpy(), [soft(t) for t in targets], model
    )

    ours = average_drop(model, images, maps, targets, absolute=True) / 100
    torch.testing.assert_close(ours, torch.from_numpy(theirs))


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_road_is_that_of_grad_cam():
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.road")
    model, images, maps = small_model(), torch.randn(3, 3, 8, 10), scaled_maps(3, 8, 10)
    targets = [0, 4, 2]
    # Distinct values and shares of whole pixels: where its percentile falls between
    # two values and ties, the two could remove another pixel.
    order = maps.flatten(1).argsort(1).argsort(1).view(maps.shape) / 79

    theirs = metrics.ROADCombined(percentiles=[20, 40, 60, 80])
    removers = [metrics.ROADMostRelevantFirst, metrics.ROADLeastRelevantFirst]
    quiet = [without_noise(metrics, remover) for remover in removers]
    theirs.morf_averager.imputer, theirs.lerf_averager.imputer = quiet
    expected = theirs(
        images, order.squeeze(1).numpy(), [soft(t) for t in targets], model
    )

    ours = road(model, images, order, targets, noise=0.0)
    torch.testing.assert_close(ours, torch.from_numpy(expected), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_arcc_is_that_of_grad_cam():
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.arcc")
    roads = pytest.importorskip("pytorch_grad_cam.metrics.road")
    images = torch.randn(3, 3, 8, 10)

    def model(x):
        # Of a score that grows with each pixel, so that ROAD is not cut off at 0.
        return 2 * x.flatten(1).mean(1, keepdim=True) * torch.tensor([1.0, 0.5, -1])

    def explain(inputs, target):
        # Distinct values, as for ROAD above, and scaled, as grad-cam's maps are.
        order = inputs.detach().mean(1).flatten(1).argsort(1).argsort(1)
        return order.view(-1, 1, 8, 10) / 79

    maps, targets = explain(images, None), [0, 1, 0]
    combined = theirs.ARCC(
        lambda input_tensor, targets: explain(input_tensor, 0)[:, 0].numpy()
    )
    for side, remover in (
        ("morf_averager", roads.ROADMostRelevantFirst),
        ("lerf_averager", roads.ROADLeastRelevantFirst),
    ):
        getattr(combined.road, side).imputer = without_noise(roads, remover)
    expected = combined(images, maps[:, 0].numpy(), [soft(t) for t in targets], model)

    ours = arcc(model, images, maps, targets, explanation_func=explain, noise=0.0)
    assert ((ours > 0.05) & (ours < 0.95)).all()
    torch.testing.assert_close(
        ours, torch.from_numpy(expected).float(), atol=1e-4, rtol=1e-4
    )


def without_noise(metrics, remover):
    def build(percentile):
        built = remover(percentile)
        built.perturbation.imputer = metrics.NoisyLinearImputer(noise=0.0)
        return built

    return build
