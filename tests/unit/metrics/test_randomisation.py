import math
from functools import partial

import pytest
import torch
from torch import nn

from captum_iscam import RISE
from captum_iscam._utils.hooks import count_passes
from captum_iscam.metrics import parameter_randomization, target_sensitivity
from captum_iscam.metrics._maps import rank_correlation


def small_model():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)
    ).eval()


def output_of(model):
    def method(inputs, target):
        return model(inputs)[:, target : target + 1]

    return method


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_the_model_is_restored_bit_for_bit(mode):
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    parameter_randomization(
        output_of(model), model, torch.rand(2, 1, 9, 9), 0, mode=mode
    )

    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_the_model_is_restored_after_an_exception(mode):
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls = []

    def method(inputs, target):
        calls.append(1)
        if len(calls) == 3:
            model[1].running_mean.fill_(7)
            raise OSError("broken")
        return model(inputs)[:, :1]

    with pytest.raises(OSError, match="broken"):
        parameter_randomization(method, model, torch.rand(1, 1, 9, 9), 0, mode=mode)

    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def states_seen(mode):
    """Which layers differ from the trained model in each call of the method."""
    model = small_model()
    trained = {name: value.clone() for name, value in model.named_parameters()}
    seen = []

    def method(inputs, target):
        changed = {
            name.split(".")[0]
            for name, value in model.named_parameters()
            if not torch.equal(value, trained[name])
        }
        seen.append(changed)
        return model(inputs)[:, :1]

    result = parameter_randomization(
        method, model, torch.rand(1, 1, 9, 9), 0, mode=mode, layers=["3", "0"]
    )
    return result.layers, seen


def test_cascading_randomises_layer_upon_layer():
    assert states_seen("cascading") == (["3", "0"], [set(), {"3"}, {"3", "0"}])


def test_independent_randomises_one_layer_at_a_time():
    assert states_seen("independent") == (["3", "0"], [set(), {"3"}, {"0"}])


def test_layers_come_from_the_output_down():
    model = small_model()
    result = parameter_randomization(output_of(model), model, torch.rand(1, 1, 9, 9), 0)

    assert result.layers == ["3", "1", "0"]
    assert result.rank_correlation.shape == result.ssim.shape == (3, 1)


def test_a_map_that_ignores_the_model_stays_the_same():
    model = small_model()
    with pytest.warns(UserWarning, match="the same, value for value"):
        result = parameter_randomization(
            lambda inputs, target: inputs, model, torch.rand(3, 1, 16, 14), 0
        )

    torch.testing.assert_close(result.rank_correlation, torch.ones(3, 3))
    torch.testing.assert_close(result.ssim, torch.ones(3, 3))


def test_a_map_of_the_model_changes():
    model = small_model()
    result = parameter_randomization(
        output_of(model),
        model,
        torch.rand(8, 1, 32, 32),
        0,
        generator=torch.Generator().manual_seed(0),
    )

    assert result.rank_correlation.mean() < 0.5
    assert result.ssim.mean() < 0.5


def test_the_similarities_are_those_of_the_upsampled_scaled_maps():
    model = nn.Conv2d(1, 1, 1, bias=False)  # one weight: mean w, spread 0

    flips = iter([1.0, -2.0])

    def method(inputs, target):
        return next(flips) * inputs[..., ::2, ::2] + 3

    result = parameter_randomization(
        method, model, torch.rand(1, 1, 24, 24), 0, layers=[""]
    )

    assert result.rank_correlation.tolist() == [[pytest.approx(-1)]]
    assert result.ssim.item() < 0


def test_parameters_are_drawn_around_their_own_mean():
    model = nn.Linear(200, 300)
    with torch.no_grad():
        model.weight.normal_(5, 0.5)
    seen = []

    def method(inputs, target):
        seen.append(model.weight.detach().clone())
        return torch.arange(3.0).view(1, 1, 3) + len(seen)

    parameter_randomization(method, model, torch.rand(1, 1, 3), 0)

    trained, drawn = seen
    assert abs(drawn.mean() - 5) < 0.05
    assert abs(drawn.std() - 0.5) < 0.05
    assert abs(torch.corrcoef(torch.stack([trained, drawn]).flatten(1))[0, 1]) < 0.1


def test_the_generator_alone_decides():
    model, images = small_model(), torch.rand(2, 1, 9, 9)
    state = torch.random.get_rng_state()

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return parameter_randomization(
            output_of(model), model, images, 0, generator=generator
        )

    assert torch.equal(run(0).ssim, run(0).ssim)
    assert not torch.equal(run(0).ssim, run(1).ssim)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nan_maps_are_reported_for_their_example():
    model = small_model()

    def method(inputs, target):
        maps = model(inputs)[:, :1]
        maps[1, 0, 0, 0] = math.nan
        return maps

    result = parameter_randomization(method, model, torch.rand(3, 1, 9, 9), 0)

    expected = [[False, True, False]] * 3
    assert result.rank_correlation.isnan().tolist() == expected
    assert result.ssim.isnan().tolist() == expected


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "all"}, 'mode must be "cascading" or "independent", got \'all\''),
        ({"layers": ["4"]}, "layers must name modules with parameters, got '4'"),
        ({"layers": ["2"]}, "layers must name modules with parameters, got '2'"),
        ({"layers": []}, "layers must name at least one module"),
    ],
)
def test_bad_arguments_are_refused(options, match):
    model = small_model()

    with pytest.raises(ValueError, match=match):
        parameter_randomization(
            output_of(model), model, torch.rand(1, 1, 9, 9), 0, **options
        )


def test_a_class_blind_map_has_no_target_sensitivity():
    images = torch.rand(2, 3, 4, 4)

    def method(inputs, target):
        return inputs.sum(1, keepdim=True)

    assert target_sensitivity(method, images, 0, other_target=1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("second", "distance"),
    [
        ([[1, 2], [3, 4]], 0),
        ([[1, 2], [3, 400]], 0),  # only the order counts
        ([[4, 3], [2, 1]], 2),
        ([[0, 0], [0, 0]], 1),
    ],
)
def test_target_sensitivity_is_one_minus_the_rank_correlation(second, distance):
    first = torch.tensor([[1, 2], [3, 4]])
    image = torch.stack([first, torch.tensor(second)]).unsqueeze(0).float()

    def method(inputs, target):
        return inputs[:, target : target + 1]

    found = target_sensitivity(method, image, 0, other_target=1)
    assert found.tolist() == [pytest.approx(distance)]


def test_target_sensitivity_of_a_nan_map_is_nan():
    def method(inputs, target):
        return inputs * (math.nan if target else 1)

    assert target_sensitivity(method, torch.rand(1, 1, 2), 0, other_target=1).isnan()


class Explainer:
    """Explains one target or several by channels of the model's output."""

    takes_several_targets = True

    def __init__(self):
        self.targets = []

    def attribute(self, inputs, target, additional_forward_args=1):
        self.targets.append(target)
        classes = torch.as_tensor(target)
        columns = (
            classes if classes.dim() == 2 else classes.expand(len(inputs))[:, None]
        )
        index = columns[..., None, None].expand(*columns.shape, *inputs.shape[2:])
        return additional_forward_args * inputs.gather(1, index)


BOTH = [
    (0, 1),
    ([0, 2, 0], 1),
    (torch.tensor([0, 2, 1]), [2, 1, 0]),
    (torch.tensor(2), torch.tensor([1])),
]


@pytest.mark.parametrize(("target", "other"), BOTH)
def test_a_method_that_takes_several_targets_is_called_once(target, other):
    images = torch.rand(3, 3, 5, 6)
    once, twice = Explainer(), Explainer()
    twice.takes_several_targets = False

    found = target_sensitivity(once.attribute, images, target, other_target=other)

    expected = target_sensitivity(twice.attribute, images, target, other_target=other)
    assert torch.equal(found, expected)
    assert found.max() > 0
    assert len(twice.targets) == 2
    assert [t.shape for t in once.targets] == [(3, 2)]


def test_the_promise_is_found_under_partial_functions():
    images, explainer = torch.rand(3, 3, 5, 6), Explainer()
    method = partial(partial(explainer.attribute), additional_forward_args=2)

    target_sensitivity(method, images, 0, other_target=1)

    assert len(explainer.targets) == 1


def test_rise_takes_half_of_the_passes_for_both_targets():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(36, 3)).eval()
    images, rise = torch.rand(2, 1, 5, 5), RISE(model)

    def asked_for(target):
        generator = torch.Generator().manual_seed(0)
        return rise.attribute(images, target, n_masks=20, generator=generator)

    generator = torch.Generator().manual_seed(0)
    method = partial(rise.attribute, n_masks=20, generator=generator)
    with count_passes(model) as both:
        found = target_sensitivity(method, images, 0, other_target=[1, 2])
    with count_passes(model) as each:
        maps = asked_for(0), asked_for([1, 2])

    assert 2 * both.rows == each.rows
    torch.testing.assert_close(found, 1 - rank_correlation(*maps))


def test_a_function_may_promise_to_take_several_targets():
    explainer = Explainer()

    def method(inputs, target):
        return explainer.attribute(inputs, target)

    for promises, calls in ((False, 2), (True, 3)):
        method.takes_several_targets = promises
        target_sensitivity(method, torch.rand(3, 3, 5, 6), 0, other_target=1)
        assert len(explainer.targets) == calls


@pytest.mark.parametrize(
    ("target", "other"), [(None, 0), ((1, 2), (0, 0)), ([(1,), (0,), (1,)], 0), (-1, 0)]
)
def test_targets_of_other_forms_are_asked_for_one_at_a_time(target, other):
    asked = []

    def method(inputs, target):
        asked.append(target)
        return inputs[:, :1] + len(asked)

    method.takes_several_targets = True
    target_sensitivity(method, torch.rand(3, 3, 5, 6), target, other_target=other)

    assert asked == [target, other]


def test_a_broken_promise_is_named():
    def method(inputs, target):
        return inputs[:, :1]

    method.takes_several_targets = True

    match = r"must return maps \(N, 2, ...\) .* got \(3, 1, 5, 6\)"
    with pytest.raises(ValueError, match=match):
        target_sensitivity(method, torch.rand(3, 3, 5, 6), 0, other_target=1)
