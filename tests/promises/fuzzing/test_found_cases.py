"""What fuzzing and faults found, kept as cases of their own."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from reference.methods import GRADIENT_METHODS, METHODS, attribute
from reference.networks import ConvNet, images

from captum_iscam import RISE, LayerScoreCAM, LayerSmoothedScoreCAM
from captum_iscam.metrics import (
    average_drop,
    deletion,
    infidelity,
    insertion,
    mask_iou,
    pointing_game,
    road,
    sensitivity_max,
    top_k_intersection,
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
        (True, TypeError, "target must hold integers, got True"),
        ([True, False], TypeError, "target must hold integers"),
        ((True,), TypeError, "target must hold integers"),
        ([1, (2,)], TypeError, "target must hold integers"),
        (torch.tensor([1j, 2]), TypeError, r"integers, got torch\.complex64"),
    ],
    ids=str,
)
def test_targets_that_name_no_class(name, net, target, error, match):
    with pytest.raises(error, match=match):
        attribute(name, net, net.features, images(2), target)


@every_method
@pytest.mark.parametrize(
    ("target", "plain"),
    [
        (np.int64(1), 1),
        ((np.int32(1),), 1),
        ([np.int64(1), torch.tensor(4)], [1, 4]),
        (torch.tensor([1, 4], dtype=torch.uint8), [1, 4]),
        (torch.tensor([1, 4], dtype=torch.int16), [1, 4]),
    ],
    ids=str,
)
def test_targets_in_integers_of_any_type(name, net, target, plain):
    def explain(asked):
        options = {"relu_attributions": False, **own(name)}
        return attribute(name, net, net.features, images(2), asked, **options)

    assert torch.equal(explain(target), explain(plain))


def own(name):
    noisy = METHODS[name][1].keys() & {"n_samples"}
    return {"generator": torch.Generator().manual_seed(3)} if noisy else {}


@every_method
def test_inputs_that_are_not_dense(name, net):
    with pytest.raises(
        TypeError, match=r"inputs must be a dense tensor, got torch\.sparse_coo"
    ):
        attribute(name, net, net.features, images(2).to_sparse(), 1)


@pytest.mark.parametrize(
    "target",
    [torch.zeros(4).long(), [0, 0, 0, 0], [0]],
    ids=str,
)
def test_metrics_ask_for_a_target_per_example_whichever_are_shown(net, target):
    # Of four views of one example, or of two of each, four targets are no surprise.
    maps = torch.rand(2, 1, 11, 14).double()
    for broken in (0, 1):
        maps[1].flatten()[:broken] = torch.nan
        with pytest.raises(AssertionError, match="target must have one entry per exam"):
            insertion(net, images(2), maps, target, steps=1 + 2 * broken)


@pytest.mark.filterwarnings("ignore:screening is ignored")
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.tensor, Fraction])
def test_numbers_of_any_type_are_options(net, kind):
    x, maps, masks = images(2), torch.rand(2, 1, 11, 14).double(), torch.ones(2, 11, 14)
    masks[..., 5:] = 0

    def options(number):
        def seeded():
            return {"generator": torch.Generator().manual_seed(3)}

        def channel(z, target=None):
            return z[:, :1]

        yield average_drop(net, x, maps, 1, keep=number)
        yield infidelity(net, x, maps, 1, patch=number, **seeded())
        yield mask_iou(maps, masks, threshold=number)
        yield pointing_game(maps, masks, tolerance=4 * number)
        yield road(net, x, maps, 1, noise=number, **seeded())
        yield sensitivity_max(channel, x, perturb_radius=number, **seeded())
        yield RISE(net).attribute(x, 1, n_masks=3, keep_probability=number, **seeded())
        method = LayerScoreCAM(net, net.features)
        signed = {"relu_attributions": False}
        yield method.attribute(x, 1, screening=number, **signed)
        method = LayerSmoothedScoreCAM(net, net.features)
        given = {"n_samples": 2, "stdevs": number}
        yield method.attribute(x, 1, **given, **seeded(), **signed)

    for found, expected in zip(options(kind(0.5)), options(0.5), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [np.int64, torch.tensor])
def test_counts_of_any_type_are_options(net, kind):
    x, maps, masks = images(2), torch.rand(2, 1, 11, 14).double(), torch.ones(2, 11, 14)

    for name in ("steps", "pixels_per_step"):
        found = deletion(net, x, maps, 1, **{name: kind(20)})
        assert torch.equal(found, deletion(net, x, maps, 1, **{name: 20}))
    assert top_k_intersection(maps, masks, k=kind(3)).eq(1).all()


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), 1j, 10**400])
def test_truth_and_what_is_no_real_number_are_no_share(value):
    with pytest.raises(ValueError, match="threshold must be from 0"):
        mask_iou(torch.rand(2, 1, 4, 4), torch.ones(2, 4, 4), threshold=value)


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
