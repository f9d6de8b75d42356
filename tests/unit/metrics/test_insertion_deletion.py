"""Insertion and deletion: closed forms, and RISE's definition step by step."""

import numpy as np
import pytest
import torch
from torch import nn

from captum_iscam.metrics import deletion, insertion
from captum_iscam.metrics.insertion_deletion import blur, blur_kernel

PLANTED = torch.tensor([[[[4.0, 1.0], [2.0, 3.0]]]])


def total(x):
    return x.flatten(1).sum(1)


def curves(metric, maps, inputs=PLANTED, **options):
    return metric(total, inputs, maps, score="identity", return_curves=True, **options)


def test_deletion_removes_the_highest_first():
    auc, fractions, scores = curves(deletion, PLANTED, steps=4)

    assert scores.tolist() == [[10, 6, 3, 1, 0]]
    assert fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert auc.tolist() == [(10 / 2 + 6 + 3 + 1) / 4]


def test_insertion_shows_the_highest_first():
    auc, _, scores = curves(insertion, PLANTED, steps=4)

    assert scores.tolist() == [[0, 4, 7, 9, 10]]
    assert auc.tolist() == [(4 + 7 + 9 + 10 / 2) / 4]


@pytest.mark.parametrize("metric", [deletion, insertion])
def test_the_area_alone_is_returned_unless_curves_are_asked_for(metric):
    area = metric(total, PLANTED, PLANTED, score="identity", steps=3)

    assert torch.equal(area, curves(metric, PLANTED, steps=3).auc)


def test_steps_that_do_not_divide_the_pixels_are_spread_evenly():
    _, fractions, scores = curves(deletion, PLANTED, steps=3)

    assert fractions.tolist() == [0, 0.25, 0.5, 1]
    assert scores.tolist() == [[10, 6, 3, 0]]


def test_a_rest_makes_a_shorter_last_step():
    auc, fractions, scores = curves(deletion, PLANTED, pixels_per_step=3)

    assert fractions.tolist() == [0, 0.75, 1]
    assert scores.tolist() == [[10, 1, 0]]
    assert auc.tolist() == [0.75 * 5.5 + 0.25 * 0.5]


@pytest.mark.parametrize("metric", [deletion, insertion])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_values_go_in_row_order(metric, value):
    _, _, scores = curves(metric, torch.full((1, 1, 1, 1), value), steps=4)

    expected = [10, 6, 5, 3, 0] if metric is deletion else [0, 4, 5, 7, 10]
    assert scores.tolist() == [expected]


def test_one_pixel_is_one_step():
    image = torch.full((1, 1, 1, 1), 2.0)

    assert curves(deletion, image, inputs=image, steps=1).scores.tolist() == [[2, 0]]


def test_all_channels_of_a_pixel_go_together():
    image = torch.tensor([[[[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]]])
    maps = torch.tensor([[[[0.0, 2.0, 1.0]]]])

    scores = curves(deletion, maps, inputs=image, steps=3).scores
    assert scores.tolist() == [[66, 44, 11, 0]]


@pytest.mark.parametrize(
    ("substrate", "last"),
    [
        ("zero", 0),
        (None, 0),
        (0.5, 2),
        (torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 10),
        ((torch.ones(1, 1, 2, 2),), 4),
    ],
)
def test_removed_pixels_show_the_substrate(substrate, last):
    scores = curves(deletion, PLANTED, substrate=substrate, steps=1).scores

    assert scores.tolist() == [[10, last]]


def test_the_substrate_defaults_to_zero_and_the_steps_to_28():
    image = torch.ones(1, 1, 7, 8)

    auc, fractions, scores = curves(insertion, image, inputs=image)

    assert scores.tolist() == [[float(2 * i) for i in range(29)]]
    assert len(fractions) == 29
    assert auc.tolist() == [28]


def test_each_example_has_its_own_substrate():
    inputs = PLANTED.repeat(2, 1, 1, 1)
    substrate = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])

    scores = curves(deletion, inputs, inputs=inputs, substrate=substrate, steps=2)

    assert scores.scores.tolist() == [[10, 3, 0], [10, 5, 4]]


def rise_kernel():
    """The authors' recipe: a point in 11 x 11 under SciPy's filter of sigma 5."""
    ndimage = pytest.importorskip("scipy.ndimage")
    point = np.zeros((11, 11))
    point[5, 5] = 1
    return torch.from_numpy(ndimage.gaussian_filter(point, 5))


def test_the_blur_kernel_is_that_of_rise():
    kernel = blur_kernel()

    torch.testing.assert_close(torch.outer(kernel, kernel), rise_kernel())


def test_the_blur_is_that_of_rise():
    image = torch.randn(2, 3, 14, 9, dtype=torch.float64)

    weights = torch.zeros(3, 3, 11, 11, dtype=torch.float64)
    for channel in range(3):
        weights[channel, channel] = rise_kernel()
    expected = nn.functional.conv2d(image, weights, padding=5)
    torch.testing.assert_close(blur(image), expected)


def test_the_blur_works_in_one_and_three_dimensions():
    kernel = blur_kernel()
    line, cube = torch.zeros(1, 2, 13).double(), torch.zeros(1, 1, 2, 1, 3).double()
    line[0, 1, 6] = cube[0, 0, 0, 0, 1] = 1

    blurred_line, blurred_cube = blur(line), blur(cube)

    torch.testing.assert_close(blurred_line[0, 1, 1:12], kernel)
    assert blurred_line[0, 0].eq(0).all()
    expected = torch.outer(kernel[5:7], kernel[4:7]).unsqueeze(1) * kernel[5]
    torch.testing.assert_close(blurred_cube[0, 0], expected)


def rise(model, image, saliency, step, substrate, inserting, target):
    """RISE, one picture and one step at a time, as its authors write it down."""
    pixels = image[0, 0].numel()
    count = -(-pixels // step)
    start, finish = (substrate, image) if inserting else (image, substrate)
    current = start.clone().flatten(2)
    order = np.argsort(-saliency.flatten().numpy(), kind="stable")
    scores = []
    for i in range(count + 1):
        output = model(current.view(image.shape))
        scores.append(torch.softmax(output, 1)[0, target].item())
        changed = torch.from_numpy(order[step * i : step * (i + 1)])
        current[:, :, changed] = finish.flatten(2)[:, :, changed]
    whole = np.array(scores)
    return whole, (whole.sum() - whole[0] / 2 - whole[-1] / 2) / count


@pytest.mark.parametrize("metric", [deletion, insertion])
@pytest.mark.parametrize("step", [6, 10, 7])
def test_curves_are_those_of_rise(metric, step):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 8, 5))
    model = model.double().eval()
    images = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    maps = torch.rand(2, 1, 8, 10, dtype=torch.float64)

    auc, _, scores = metric(
        model,
        images,
        maps,
        [1, 4],
        substrate="blur",
        pixels_per_step=step,
        return_curves=True,
    )

    for i, target in enumerate([1, 4]):
        expected, area = rise(
            model,
            images[i : i + 1],
            maps[i],
            step,
            blur(images[i : i + 1]),
            metric is insertion,
            target,
        )
        torch.testing.assert_close(scores[i], torch.from_numpy(expected))
        # RISE weighs the shorter last step of 7 pixels as a whole one.
        if 80 % step == 0:
            assert auc[i].item() == pytest.approx(area)


@pytest.mark.parametrize("metric", [deletion, insertion])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"steps": 5},
            "steps must be an integer .* number of pixels, 4, got 5",
        ),
        ({"steps": 2.5}, "steps must be an integer between 1 .* got 2.5"),
        ({"steps": 0}, "steps must be an integer"),
        ({"pixels_per_step": 5}, "pixels_per_step must be an integer between 1"),
        ({"pixels_per_step": 0}, "pixels_per_step must be an integer between 1"),
        ({"steps": 4, "substrate": "grey"}, 'substrate must be "zero", "blur"'),
        ({"steps": 4, "substrate": (0, 0)}, "one entry per masked input, got 2"),
        ({"steps": 4, "substrate": torch.ones(3, 3)}, "substrate must have the shape"),
    ],
)
def test_bad_arguments_are_refused(metric, options, match):
    with pytest.raises(ValueError, match=match):
        metric(total, PLANTED, PLANTED, score="identity", **options)


def test_a_substrate_must_be_a_number_or_a_tensor():
    with pytest.raises(TypeError, match="substrate must be numbers or tensors"):
        deletion(total, PLANTED, PLANTED, steps=4, substrate=[0])


def test_pixels_are_ranked_at_one_size():
    inputs = (torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3))

    with pytest.raises(ValueError, match=r"must share their spatial size"):
        deletion(lambda a, b: total(a) + total(b), inputs, PLANTED, steps=4)
