"""Metrics from outside the package: what they return, and what they must not change."""

from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from captum_iscam.benchmark.metric_registry import metric
from captum_iscam.benchmark.metric_spec import MetricSpec
from captum_iscam.benchmark.metric_trial import check_returns, tiny_context

declared = metric(higher_is_better=True, unit="share")
ONE = torch.zeros(1)


def spec(function):
    return MetricSpec(declared(function))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor([True]), "got the type torch.bool"),
        (torch.tensor([1 + 2j]), "got the type torch.complex64"),
        (torch.zeros(2), r"got the shape \(2,\)"),
        (None, "got NoneType"),
        (0.5, "got float"),
    ],
)
def test_what_is_no_real_number_is_refused(value, said):
    def mine(attributions):
        return value

    with pytest.raises(ValueError, match=f"mine must return one number.*{said}"):
        check_returns({"mine": spec(mine)})


@pytest.mark.parametrize("value", [torch.tensor([3]), torch.tensor([torch.nan])])
def test_integers_are_numbers_and_nan_is_undefined(value):
    check_returns({"mine": spec(lambda attributions: value)})


@pytest.mark.parametrize("error", [SystemExit(3), NameError("x"), GeneratorExit()])
def test_what_it_raises_is_left_to_the_rows(error):
    def mine(attributions):
        raise error

    check_returns({"mine": spec(mine)})


def in_place(model, attributions):
    with torch.no_grad():
        model[2].weight[1].zero_()
    return ONE


def by_data(forward_func, attributions):
    forward_func[2].bias.data.add_(1)
    return ONE


def other_parameter(model):
    model[2].bias = torch.nn.Parameter(model[2].bias.detach().clone())
    return ONE


def training(model):
    model[2].train()
    return ONE


def hook(model):
    model[0].register_forward_hook(lambda module, args, output: output * 0)
    return ONE


def then_raises(model):
    model[2].weight.data.mul_(0)
    raise KeyError


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (in_place, "the parameter '2.weight'"),
        (by_data, "the parameter '2.bias'"),
        (other_parameter, "the parameter '2.bias'"),
        (training, "the mode of the module '2'"),
        (hook, "the hooks of the module '0'"),
        (then_raises, "the parameter '2.weight'"),
    ],
)
def test_a_metric_that_changes_the_model_is_refused_by_name(function, said):
    name = function.__name__
    with pytest.raises(ValueError, match=f"{name} must leave .* changed {said}"):
        check_returns({"mine": spec(function)})
    model = tiny_context().model
    with (
        pytest.raises(ValueError, match=said),
        spec(function).leaving_the_model(model),
        suppress(KeyError),
    ):
        spec(function).call(replace(tiny_context(), model=model))


def test_weights_that_are_put_back_and_hooks_that_are_removed_are_no_change():
    def mine(model, inputs):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            model[2].weight.zero_()
        model.load_state_dict(state)
        handle = model[0].register_forward_hook(lambda *_: None)
        model(inputs)
        handle.remove()
        return ONE

    check_returns({"mine": spec(mine)})


def test_buffers_are_put_back():
    model = torch.nn.BatchNorm2d(3).eval()

    def mine(model):
        model.running_mean.add_(1)
        return ONE

    with spec(mine).leaving_the_model(model):
        mine(model)

    assert model.running_mean.tolist() == [0, 0, 0]


def test_what_a_metric_writes_to_is_its_own():
    context = tiny_context()
    kept = tiny_context()

    copied = context.copied()
    for value in vars(copied).values():
        if isinstance(value, torch.Tensor):
            value.zero_()

    for name, value in vars(kept).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(context, name), value), name
    assert copied.model is context.model
