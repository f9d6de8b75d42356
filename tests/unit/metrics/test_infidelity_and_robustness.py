"""Captum's own metrics, right for the maps of a layer."""

import captum.metrics
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from captum_iscam.metrics import infidelity, sensitivity_max


def total(x):
    return x.flatten(1).sum(1)


def additive(*shape):
    """An image whose sum is the model's score: its map is the image itself."""
    return torch.rand(2, 1, *shape, dtype=torch.float64)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [(8, 9), (10,), (4, 5, 6)])
def test_the_true_contributions_have_no_infidelity(normalize, size):
    image = additive(*size)

    found = infidelity(total, image, image, score="identity", normalize=normalize)
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64))


def test_a_map_is_shared_out_over_channels_and_inputs():
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    depth = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    maps = images.sum(1, keepdim=True) + depth

    found = infidelity(
        lambda a, b: total(a) + total(b),
        (images, depth),
        maps,
        score="identity",
        normalize=False,
    )
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64))


def test_contributions_count_from_the_baseline():
    image = additive(7, 7)

    found = infidelity(
        total, image, image - 0.3, score="identity", baselines=0.3, normalize=False
    )
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64))


def squares(size, patch, samples, seed):
    """The squares, drawn one by one."""
    places = torch.rand(samples, 2, generator=torch.Generator().manual_seed(seed))
    for place in places:
        square = torch.zeros(size, dtype=torch.bool)
        part = []
        for share, length in zip(place.tolist(), size, strict=True):
            side = max(1, round(patch * length))
            start = int(share * (length - side + 1))
            part.append(slice(start, start + side))
        square[tuple(part)] = True
        yield square


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 7, 1000, None])
def test_infidelity_is_its_formula_whatever_the_chunk(normalize, chunk):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 6, 4)).double().eval()
    images = torch.rand(3, 3, 8, 6, dtype=torch.float64)
    maps = torch.randn(3, 1, 8, 6, dtype=torch.float64)
    targets = [0, 3, 1]

    found = infidelity(
        model,
        images,
        maps,
        targets,
        patch=0.3,
        n_perturb_samples=5,
        normalize=normalize,
        generator=torch.Generator().manual_seed(4),
        internal_batch_size=chunk,
    )

    for i, target in enumerate(targets):
        whole = model(images[i : i + 1]).softmax(1)[0, target]
        predicted, observed = [], []
        for square in squares((8, 6), 0.3, 5, seed=4):
            hidden = torch.where(square, 0, images[i : i + 1])
            observed.append(whole - model(hidden).softmax(1)[0, target])
            predicted.append(maps[i, 0][square].sum())
        predicted, observed = torch.stack(predicted), torch.stack(observed)
        beta = (predicted @ observed) / (predicted @ predicted) if normalize else 1
        expected = (beta * predicted - observed).square().mean()
        torch.testing.assert_close(found[i], expected)


def test_a_zero_map_predicts_no_change():
    image = additive(8, 8)
    generator = torch.Generator().manual_seed(0)

    found = infidelity(
        total,
        image,
        torch.zeros_like(image),
        score="identity",
        n_perturb_samples=3,
        generator=generator,
    )

    hidden = [image[:, 0][:, s].sum(1) for s in squares((8, 8), 0.25, 3, seed=0)]
    torch.testing.assert_close(found, torch.stack(hidden).square().mean(0))


def test_further_arguments_follow_their_example():
    image = additive(5, 5)
    factors = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)

    def model(x, factor, offset):
        return total(x * factor.view(-1, 1, 1, 1)) + offset

    found = infidelity(
        model,
        image,
        image * factors.view(2, 1, 1, 1),
        additional_forward_args=(factors, 1.5),
        score="identity",
        normalize=False,
        internal_batch_size=3,
    )
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64))


def test_inputs_without_a_map_are_left_alone():
    image, other = additive(5, 5), torch.rand(2, 4)

    found = infidelity(
        lambda x, y: total(x) + y.sum(1),
        (image, other),
        image,
        score="identity",
        normalize=False,
    )
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"patch": 0}, "patch must be a share of the side above 0 and at most 1"),
        ({"patch": 1.1}, "patch must be"),
        (
            {"n_perturb_samples": 0},
            "n_perturb_samples must be an integer .* got 0",
        ),
    ],
)
def test_infidelity_refuses_bad_arguments(options, match):
    image = additive(4, 4)

    with pytest.raises(ValueError, match=match):
        infidelity(total, image, image, score="identity", **options)


def waves(*shape, frequency):
    """Numbers that are the same with every version of every library."""
    place = torch.arange(1.0, torch.Size(shape).numel() + 1)
    return torch.sin(frequency * place).view(shape)


def grad_cam(count):
    """A Grad-CAM as Captum has it, whose map is a bare tensor."""
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(5 * 36, 4)
    ).eval()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters(), start=1):
            parameter.copy_(waves(*parameter.shape, frequency=i))
    return LayerGradCam(model, model[0]), waves(count, 3, 8, 8, frequency=0.7)


def test_sensitivity_is_right_where_captum_alone_is_wrong():
    method, image = grad_cam(1)

    torch.manual_seed(0)
    alone = captum.metrics.sensitivity_max(method.attribute, image, target=2)
    torch.manual_seed(0)
    tupled = captum.metrics.sensitivity_max(
        lambda *args, **kwargs: (method.attribute(*args, **kwargs),), image, target=2
    )
    torch.manual_seed(0)
    ours = sensitivity_max(method.attribute, image, 2)

    torch.testing.assert_close(ours, tupled.detach())
    assert ours.item() == pytest.approx(0.1774, abs=5e-4)
    # Captum 0.9 loops over the examples of a bare map as if they were maps. Where this
    # fails because Captum has mended it, the adapter has one reason less to be.
    assert alone.item() == pytest.approx(0.5609, abs=5e-4)


def test_sensitivity_is_its_formula():
    method, images = grad_cam(3)
    targets = [0, 3, 1]

    found = sensitivity_max(
        method.attribute,
        images,
        targets,
        perturb_radius=0.1,
        n_perturb_samples=4,
        generator=torch.Generator().manual_seed(5),
    )

    generator = torch.Generator().manual_seed(5)
    noise = torch.empty(4, 3, 8, 8).uniform_(-0.1, 0.1, generator=generator)
    for i, target in enumerate(targets):
        whole = method.attribute(images[i : i + 1], target=target)
        moved = method.attribute(images[i : i + 1] + noise, target=target)
        changes = (moved - whole).flatten(1).norm(dim=1) / whole.norm()
        largest = changes.max().detach()
        torch.testing.assert_close(found[i], largest, rtol=1e-4, atol=0)


@pytest.mark.parametrize("chunk", [1, 5, 6, 100])
def test_sensitivity_does_not_depend_on_the_chunk(chunk):
    method, images = grad_cam(3)

    def run(size):
        generator = torch.Generator().manual_seed(5)
        return sensitivity_max(
            method.attribute,
            images,
            torch.tensor([0, 3, 1]),
            generator=generator,
            internal_batch_size=size,
        )

    torch.testing.assert_close(run(chunk), run(None))


def test_sensitivity_takes_several_inputs_and_expanded_maps():
    def method(inputs, target, additional_forward_args):
        first, second = inputs
        row = first.mean((1, 3)) * additional_forward_args + second.mean(1, True)
        return row[:, None, :, None].expand(-1, 1, 4, 4)

    inputs = (torch.rand(2, 3, 4, 4), torch.rand(2, 5))
    found = sensitivity_max(method, inputs, 0, 2.0)

    assert found.shape == (2,)
    assert (found > 0).all()


def test_a_zero_map_has_its_change_for_a_sensitivity():
    def method(inputs, target):
        return (inputs != 0).float()

    assert sensitivity_max(method, torch.zeros(1, 1, 3, 3)).tolist() == [3]


def test_a_map_that_turns_nan_has_no_sensitivity():
    def method(inputs, target):
        return inputs.where(inputs < 1, torch.nan)

    found = sensitivity_max(method, torch.tensor([[[0.5]], [[1.0]]]))
    assert found.isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"perturb_radius": -1}, "perturb_radius must be 0 or more, got -1"),
        (
            {"n_perturb_samples": 0},
            "n_perturb_samples must be an integer",
        ),
        ({"internal_batch_size": 0}, "internal_batch_size must be"),
    ],
)
def test_sensitivity_refuses_bad_arguments(options, match):
    method, image = grad_cam(1)

    with pytest.raises(ValueError, match=match):
        sensitivity_max(method.attribute, image, 0, **options)
