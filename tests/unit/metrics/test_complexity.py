import math

import pytest
import torch

from captum_iscam.metrics import adcc, coherency, complexity, sparseness


def grid(*rows):
    return torch.tensor([[rows]], dtype=torch.float32)


def total(x):
    return x.flatten(1).sum(1)


def brightness(inputs, target):
    return inputs.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("maps", "share"),
    [
        (grid([0, 0], [0, 1]), 1 / 4),
        (grid([0, 1], [1, 1]), 3 / 4),
        (grid([-2, 2], [0, 1]), (0 + 1 + 0.5 + 0.75) / 4),
        (grid([5, 5], [5, 5]), 0),
        (grid([0, 0], [0, 0]), 0),
        (grid([3]), 0),
    ],
)
def test_complexity_is_the_mean_of_the_scaled_map(maps, share):
    assert complexity(maps).tolist() == [pytest.approx(share)]


def test_complexity_is_measured_at_the_size_asked_for():
    # 0, 1/4, 3/4, 1 after upsampling; 0, 1, 0 becomes 0, 1/2, 1, 1/2, 0 and so on.
    maps = grid([0, 1, 0])

    assert complexity(maps).item() == pytest.approx(1 / 3)
    upsampled = torch.tensor([0, 0.25, 0.75, 0.75, 0.25, 0]) / 0.75
    assert complexity(maps, size=(1, 6)).item() == pytest.approx(upsampled.mean())


@pytest.mark.parametrize(
    ("maps", "gini"),
    [
        (grid([1, 1], [1, 1]), 0),
        (grid([0, 0], [0, 0]), 0),
        (grid([0, 0], [0, 7]), 3 / 4),
        (grid([0, 0], [0, -7]), 3 / 4),
        (grid([1, 3]), 1 / 4),
        (grid([1, 2], [3, 4]), 1 / 4),
        (grid([5]), 0),
    ],
)
def test_sparseness_is_the_gini_index(maps, gini):
    assert sparseness(maps).tolist() == [pytest.approx(gini)]


def test_sparseness_is_half_the_relative_mean_difference():
    maps = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    values = maps.flatten()

    differences = (values.unsqueeze(0) - values.unsqueeze(1)).abs().mean()
    expected = differences / (2 * values.mean())
    torch.testing.assert_close(sparseness(maps), expected.view(1))


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_sparseness_cancels_nothing_in_single_precision(spread):
    maps = 1 + spread * torch.rand(2, 1, 224, 224)

    expected = sparseness(maps.double()).float()
    torch.testing.assert_close(sparseness(maps), expected, rtol=1e-6, atol=3e-9)


def test_sparseness_agrees_with_quantus():
    # The number is what Sparseness(abs=True, normalise=False) of Quantus 0.6.0 gave
    # for this map, called with a_batch of shape (1, 1, 6, 8).
    maps = torch.sin(torch.arange(1.0, 49.0, dtype=torch.float64)).view(1, 1, 6, 8)

    assert sparseness(maps).item() == pytest.approx(0.2715084088, abs=1e-6)


@pytest.mark.parametrize("metric", [complexity, sparseness])
def test_nan_maps_are_reported_for_their_example(metric):
    maps = torch.rand(3, 1, 4, 4)
    maps[0, 0, 1, 1] = math.nan
    maps[2, 0, 3, 0] = math.inf

    assert metric(maps).isnan().tolist() == [True, False, True]


@pytest.mark.parametrize("metric", [complexity, sparseness])
def test_a_size_below_that_of_the_map_is_refused(metric):
    with pytest.raises(ValueError, match=r"layer's size or of the input's size"):
        metric(torch.rand(1, 1, 4, 4), size=(3, 4))


def test_coherency_is_one_where_the_map_explains_itself():
    image = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])

    assert coherency(brightness, image, image).tolist() == [1]


def test_coherency_is_zero_where_the_map_turns_around():
    image = torch.tensor([[[[0.25, 1.0], [0.25, 0.25]]]])
    maps = torch.tensor([[[[0.0, -1.0], [0.0, 0.0]]]])

    # The map hides the second pixel: 0.25, 0, 0.25, 0.25 against 0, -1, 0, 0.
    found = coherency(lambda x, target: -brightness(x, target), image, maps)
    assert found.tolist() == [pytest.approx(0, abs=1e-6)]


def test_coherency_is_the_rescaled_correlation_of_both_maps():
    image = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    maps = torch.rand(1, 1, 4, 5, dtype=torch.float64)
    low, high = maps.min(), maps.max()

    found = coherency(brightness, image, maps, baselines=0.5)

    again = brightness(0.5 + (maps - low) / (high - low) * (image - 0.5), None)
    pair = torch.stack([maps.flatten(), again.flatten()])
    expected = (1 + torch.corrcoef(pair)[0, 1]) / 2
    torch.testing.assert_close(found, expected.view(1))


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_a_constant_map_is_not_coherent(value):
    image = torch.rand(2, 1, 3, 3)
    maps = torch.full((2, 1, 3, 3), value)

    assert coherency(brightness, image, maps).tolist() == [0, 0]
    constant = coherency(lambda x, target: maps, image, brightness(image, None))
    assert constant.tolist() == [0, 0]


def test_the_method_is_asked_as_the_caller_would_ask_it():
    asked = []

    def method(inputs, **arguments):
        asked.append((inputs, arguments))
        return inputs[0][:, :1]

    images, signal = torch.rand(2, 3, 4, 4), torch.rand(2, 7)
    coherency(
        method, (images, signal), images[:, :1], [0, 1], additional_forward_args=3
    )

    (shown, passed), arguments = asked[0]
    assert shown.shape == images.shape
    assert passed is signal
    assert arguments == {"target": [0, 1], "additional_forward_args": 3}


def test_nan_maps_are_not_coherent_nor_shown_to_the_method():
    image = torch.rand(2, 1, 3, 3)
    maps = image.clone()
    maps[1, 0, 0, 0] = math.nan

    def method(inputs, target):
        assert inputs.isfinite().all()
        return inputs

    found = coherency(method, image, maps)
    assert found[0] > 0.9
    assert found.isnan().tolist() == [False, True]


def test_a_method_with_maps_of_another_size_is_refused():
    image = torch.rand(1, 1, 4, 4)

    with pytest.raises(ValueError, match=r"maps of the shape \(1, 1, 4, 4\)"):
        coherency(lambda x, target: x[..., :2], image, image)


@pytest.mark.parametrize("left", [1.0, 0.5])
def test_adcc_is_the_harmonic_mean_of_its_parts(left):
    image = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    maps = torch.tensor([[[[1.0, left], [0.0, 0.0]]]], dtype=torch.float32)

    found = adcc(
        total, image, maps, explanation_func=brightness, score="identity"
    ).item()

    coherent = coherency(brightness, image, maps).item()
    covered, drop = (1 + left) / 4, (1 - left) / 2
    expected = 3 / (1 / coherent + 1 / (1 - covered) + 1 / (1 - drop))
    assert found == pytest.approx(expected)


def test_adcc_of_a_map_that_hides_everything_is_zero():
    image = torch.ones(1, 1, 2, 2)
    maps = torch.zeros(1, 1, 2, 2)

    found = adcc(total, image, maps, explanation_func=brightness, score="identity")
    assert found.tolist() == [0]


def test_adcc_of_a_score_of_zero_is_undefined_unless_the_map_is_incoherent():
    image = torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]]).expand(3, 1, 2, 2)
    maps = torch.zeros(3, 1, 2, 2)
    maps[0, 0, 0, 0], maps[2, 0, 0, 0] = 1, math.nan

    found = adcc(total, image, maps, explanation_func=brightness, score="identity")

    assert coherency(brightness, image, maps)[0] > 0.5
    assert found.isnan().tolist() == [True, False, True]
    assert found[1] == 0


def test_adcc_is_zero_where_everything_drops():
    image = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    maps = torch.tensor([[[[0.0, 1.0], [0.5, 0.0]]]])

    def method(inputs, target):
        return maps

    found = adcc(total, image, maps, explanation_func=method, score="identity")
    assert coherency(method, image, maps).tolist() == [1]
    assert found.tolist() == [0]


def test_adcc_measures_the_complexity_at_the_size_of_the_input():
    image = torch.ones(1, 1, 1, 6)
    maps = grid([0, 1, 0])

    def method(inputs, target):
        return torch.nn.functional.adaptive_avg_pool2d(inputs, (1, 3))

    found = adcc(total, image, maps, explanation_func=method, score="identity").item()

    mean = (2 + 2 / 3) / 6  # 0, 1/3, 1, 1, 1/3, 0 of ones: what is covered and is left
    coherent = coherency(method, image, maps).item()
    assert found == pytest.approx(3 / (1 / coherent + 1 / (1 - mean) + 1 / mean))
