"""What fuzzing and faults found, kept as cases of their own."""

import pytest
import torch
from reference.methods import GRADIENT_METHODS, METHODS, attribute
from reference.networks import ConvNet, images

from captum_iscam import RISE
from captum_iscam.metrics import (
    infidelity,
    mask_iou,
    pointing_game,
    road,
    sensitivity_max,
)

every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture
def net():
    return ConvNet().double()


@every_method
@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        ([0.5, 0.5], TypeError, "target must hold integers"),
        ([(0.5,), (1,)], TypeError, "target must hold integers"),
        ("cat", TypeError, "target must hold integers, got 'cat'"),
        (torch.tensor([True, False]), TypeError, r"integers, got torch\.bool"),
        ([(0, 1), (0, 1)], ValueError, "one index per dimension after the first, 1"),
    ],
    ids=str,
)
def test_targets_that_name_no_class(name, net, target, error, match):
    with pytest.raises(error, match=match):
        attribute(name, net, net.features, images(2), target)


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_transforms_that_give_no_tensor(name, net):
    own = {"constructor": {"reshape_transform": lambda maps: [maps]}}
    with pytest.raises(TypeError, match="reshape_transform must return a tensor"):
        attribute(name, net, net.features, images(2), 1, **own)


def test_generators_that_are_none(net):
    x = images(2)
    maps, match = torch.rand(2, 1, 11, 14).double(), "generator must be a torch"
    with pytest.raises(TypeError, match=match):
        RISE(net).attribute(x, 1, n_masks=2, generator=3)
    with pytest.raises(TypeError, match=match):
        attribute("smooth grad-cam++", net, net.features, x, 1, generator=3)
    for metric in (infidelity, road):
        with pytest.raises(TypeError, match=match):
            metric(net, x, maps, 1, generator=3)
    with pytest.raises(TypeError, match=match):
        sensitivity_max(lambda z, target: z[:, :1], x, generator=3)


@pytest.mark.parametrize("grid", [True, (True, 2)])
def test_truth_is_no_number_of_cells_or_masks(net, grid):
    with pytest.raises(ValueError, match="grid must be an integer"):
        RISE(net).attribute(images(2), 1, n_masks=2, grid=grid)
    with pytest.raises(ValueError, match="n_masks must be an integer"):
        RISE(net).attribute(images(2), 1, n_masks=True)


@pytest.mark.parametrize("value", ["half", float("inf")])
def test_metric_options_that_are_no_finite_numbers(net, value):
    maps, masks = torch.rand(2, 1, 11, 14).double(), torch.ones(2, 11, 14)
    x = images(2)
    with pytest.raises(ValueError, match="tolerance must be a distance"):
        pointing_game(maps, masks, tolerance=value)
    with pytest.raises(ValueError, match="threshold must be from 0"):
        mask_iou(maps, masks, threshold=value)
    with pytest.raises(ValueError, match="patch must be a share"):
        infidelity(net, x, maps, 1, patch=value)
    with pytest.raises(ValueError, match="noise must be a standard deviation"):
        road(net, x, maps, 1, noise=value)
    with pytest.raises(ValueError, match="perturb_radius must be 0 or more"):
        sensitivity_max(lambda z, target: z[:, :1], x, perturb_radius=value)


def test_integers_cannot_be_moved_a_little():
    whole = torch.ones(2, 3, 4, 4).long()
    with pytest.raises(TypeError, match="inputs must be floating point"):
        sensitivity_max(lambda z, target: z[:, :1].float(), whole)


@every_method
def test_a_model_that_forgets_a_class_on_the_way(name, net):
    seen = []

    def forgetful(x):
        seen.append(len(x))
        return net(x)[:, : 5 if len(seen) == 1 else 4]

    with pytest.raises(ValueError, match="forward_func must return one shape in every"):
        attribute(name, forgetful, net.features, images(2), 1)
