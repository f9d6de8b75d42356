import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from torch import nn

from captum_iscam.metrics import (
    CenterMap,
    ChannelMean,
    RandomMap,
    center_map,
    channel_mean,
    random_map,
)

ALL = [CenterMap, ChannelMean, RandomMap]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


# An untrained layer may have no mean above zero.
pytestmark = pytest.mark.filterwarnings("ignore:The map is zero everywhere")


def small_model(spatial=2):
    return nn.Sequential(CONVOLUTIONS[spatial](3, 4, 3), nn.ReLU()).eval()


@pytest.mark.parametrize("control", ALL)
@pytest.mark.parametrize("size", [(8,), (8, 6), (5, 6, 7)])
def test_controls_stand_in_for_a_method(control, size):
    model = small_model(len(size))
    images = torch.rand(2, 3, *size)

    built = control(model, model[0], None, score="identity", reshape_transform=None)
    maps = built.attribute(
        images,
        [1, 2],
        None,
        False,
        True,
        baselines=0,
        internal_batch_size=1,
        show_progress=False,
    )

    assert isinstance(built, LayerAttribution)
    assert maps.shape == (2, 1, *[n - 2 for n in size])
    assert not maps.requires_grad
    assert (maps >= 0).all()


def test_the_channel_mean_is_the_mean_of_the_channels():
    model, images = small_model(), torch.rand(2, 3, 6, 6)

    signed = ChannelMean(model, model[0]).attribute(images, relu_attributions=False)

    expected = model[0](images).mean(1, keepdim=True)
    torch.testing.assert_close(signed, expected.detach())
    rectified = ChannelMean(model, model[0]).attribute(images)
    torch.testing.assert_close(rectified, expected.detach().relu())


def test_the_centre_map_is_symmetric_and_the_same_for_all():
    model, images = small_model(), torch.rand(2, 3, 7, 10)

    maps = CenterMap(model, model[0]).attribute(images)

    assert torch.equal(maps[0], maps[1])
    torch.testing.assert_close(maps, maps.flip(2).flip(3))
    # Two places from the middle of five: exp(-0.5 (2 / 1.25)^2).
    column = maps[0, 0, :, 3] / maps[0, 0, 2, 3]
    expected = torch.exp(-0.5 * (torch.tensor([-2.0, -1, 0, 1, 2]) / 1.25) ** 2)
    torch.testing.assert_close(column, expected)


def test_random_maps_come_from_the_generator():
    model, images = small_model(), torch.rand(3, 3, 40, 40)
    state = torch.random.get_rng_state()

    first, again, other = (
        RandomMap(
            model, model[0], generator=torch.Generator().manual_seed(seed)
        ).attribute(images)
        for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert abs(first.mean() - 0.5) < 0.02
    assert first.min() >= 0
    assert first.max() < 1


def test_random_maps_are_drawn_on_the_cpu_wherever_the_model_is():
    model = small_model().to("meta")
    state = torch.random.get_rng_state()

    maps = RandomMap(model, model[0]).attribute(torch.rand(2, 3, 8, 8, device="meta"))

    assert maps.is_meta
    assert not torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("control", ALL)
def test_a_layer_that_did_not_run_is_an_error(control):
    with pytest.raises(ValueError, match="layer must run in the forward pass"):
        control(small_model(), nn.Conv2d(3, 4, 3)).attribute(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("control", [CenterMap, ChannelMean])
def test_a_list_of_layers_gives_a_list_of_maps(control):
    model, images = small_model(), torch.rand(2, 3, 8, 8)

    maps = control(model, [model[0], model[1]]).attribute(images)

    alone = [control(model, layer).attribute(images) for layer in model]
    assert all(map(torch.equal, maps, alone))


@pytest.mark.parametrize("control", ALL)
def test_what_is_no_layer_is_refused(control):
    with pytest.raises(TypeError, match="layer must be a module"):
        control(small_model(), "0")


@pytest.mark.parametrize("control", ALL)
def test_the_default_device_does_not_matter(control):
    model, images = small_model(), torch.rand(2, 3, 8, 6)
    torch.manual_seed(7)
    expected = control(model, model[0]).attribute(images)

    torch.manual_seed(7)
    with torch.device("meta"):
        maps = control(model, model[0]).attribute(images)

    assert torch.equal(maps, expected)


def test_the_layers_input_can_be_taken():
    model, images = small_model(), torch.rand(1, 3, 6, 6)

    maps = ChannelMean(model, model[0]).attribute(images, attribute_to_layer_input=True)

    torch.testing.assert_close(maps, images.mean(1, keepdim=True))


def test_tokens_become_maps_by_the_transform():
    model, tokens = nn.Identity(), torch.rand(2, 6, 5)

    maps = ChannelMean(
        model, model, reshape_transform=lambda t: t.transpose(1, 2).unflatten(2, (2, 3))
    ).attribute(tokens)

    torch.testing.assert_close(maps, tokens.mean(2).view(2, 1, 2, 3))


def test_controls_work_in_a_noise_tunnel_and_leave_no_hooks():
    model, images = small_model(), torch.rand(2, 3, 6, 6)

    maps = NoiseTunnel(ChannelMean(model, model[0])).attribute(images, nt_samples=2)

    assert maps.shape == (2, 1, 4, 4)
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("control", ALL)
def test_a_layer_without_places_is_refused(control):
    model = nn.Linear(3, 2)

    with pytest.raises(ValueError, match=r"layer must have a spatial output"):
        control(model, model).attribute(torch.rand(4, 3))


def test_controls_have_names_in_lower_case_too():
    assert (center_map, channel_mean, random_map) == (CenterMap, ChannelMean, RandomMap)
