"""Every method by name, where torch or Captum alone would say too little or nothing."""

import re

import pytest
import torch
from torch import nn

from captum_iscam.layers import default_layer, spatial_layers
from captum_iscam.methods import METHODS, Options

OPTIONS = Options(n_samples=2, n_masks=8)
OF_GRADIENTS = [
    *("integrated-grad-cam", "grad-cam", "finer-cam", "grad-cam++"),
    *("smooth-grad-cam++", "layer-cam", "hires-cam", "xgrad-cam"),
    "integrated-gradients",
]
CONTROLS = [name for name, method in METHODS.items() if method.control]
OF_INPUT = [name for name, method in METHODS.items() if not method.of_layer]
JUDGED = [name for name in METHODS if name not in CONTROLS]

every_method = pytest.mark.parametrize("name", METHODS)
# So small a model, untrained, has classes that no channel supports.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero everywhere",
    "ignore:The score of example",
    "ignore:The scores of masked inputs differ by little",
    "ignore:The model's outputs all lie between 0 and 1",
    "ignore:The noise leaves no channel",
    "ignore:.*quantiz",
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    ).eval()


@pytest.fixture
def x():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def explain(name, model, layer, x):
    return METHODS[name].attribute(model, layer, x, 0, OPTIONS)


def said(name, model, layer, x):
    """Returns the one error, which has the usual form."""
    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        explain(name, model, layer, x)
    text = str(caught.value)
    assert re.search(r"^[\w' ]+ must .*, got .*\. .*\.$", text), text
    return text


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_inference_mode_is_named_where_gradients_are_needed(name, x):
    model = network()

    with torch.inference_mode():
        text = said(name, model, model[3], x)

    assert "inference_mode" in text


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_models_made_in_inference_mode_are_named(name, x):
    with torch.inference_mode():
        model = network()

    assert "copy.deepcopy(model)" in said(name, model, model[3], x)


@every_method
def test_inputs_made_in_inference_mode_are_inputs(name, x):
    model = network()
    with torch.inference_mode():
        made = x.clone()

    torch.testing.assert_close(
        explain(name, model, model[3], made), explain(name, model, model[3], x)
    )


@every_method
@pytest.mark.parametrize(
    ("of_model", "of_inputs"),
    [
        (torch.float32, torch.float64),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
        (torch.float32, torch.uint8),
    ],
)
def test_inputs_of_another_type_than_the_model_are_named(name, of_model, of_inputs, x):
    model = network().to(of_model)

    # Of integers, gradients of the input would be zero without a word.
    assert str(of_inputs) in said(name, model, model[3], x.to(of_inputs))


def test_functions_around_a_model_of_another_type_are_named(x):
    model = network()
    attribution = METHODS["score-cam"].attribution(lambda z: model(z), model[3])

    with pytest.raises(ValueError, match=r"type of the model's parameters.*float64"):
        attribution.attribute(x.double(), 0)


@pytest.mark.parametrize("find", [default_layer, spatial_layers])
def test_layers_are_sought_with_inputs_of_the_models_type(find, x):
    with pytest.raises(ValueError, match=r"type of the model's parameters.*float64"):
        find(network(), x.double())


@every_method
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_maps_of_half_precision_are_of_single(name, kind, x):
    model = network().to(kind)

    maps = explain(name, model, model[3], x.to(kind))

    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()


class Quantised(nn.Module):
    """A network with a layer of 8 bit numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.quantised = torch.ao.nn.quantized.Quantize(0.1, 10, torch.quint8)
        self.numbers = torch.ao.nn.quantized.DeQuantize()
        self.head = nn.Linear(8, 5)
        self.eval()

    def forward(self, x):
        found = self.numbers(self.quantised(self.conv(x)))
        return self.head(found.mean((2, 3)))


@pytest.mark.parametrize("name", [n for n in METHODS if n not in OF_INPUT])
def test_quantised_layers_are_named(name, x):
    model = Quantised()

    assert "torch.quint8" in said(name, model, model.quantised, x)


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_quantised_models_have_no_gradients(name, x):
    model = Quantised()

    text = said(name, model, model.conv, x)

    assert "code without gradients" in text
    assert "which needs none" in text or "that needs none" in text


class Twice(nn.Module):
    """A network that runs its features on the image and its mirror image."""

    def __init__(self, together):
        super().__init__()
        model = network()
        self.features, self.head = model[:4], model[4:]
        self.together = together
        self.eval()

    def forward(self, x):
        if self.together:
            both = self.features(torch.cat([x, x.flip(3)]))
            return self.head(both).unflatten(0, (2, len(x))).mean(0)
        return self.head(self.features(x) + self.features(x.flip(3)))


@pytest.mark.parametrize("name", [n for n in METHODS if n not in OF_INPUT])
def test_layers_that_run_twice_are_warned_of(name, x):
    model = Twice(together=False)

    with pytest.warns(UserWarning, match="runs 2 times in a pass"):
        explain(name, model, model.features, x)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in OF_INPUT])
def test_layers_of_a_doubled_batch_are_named(name, x):
    model = Twice(together=True)

    assert "one row per example" in said(name, model, model.features, x)


class OfTheBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        logits = 50 * self.net(x)
        return logits - logits.mean(0, keepdim=True)


@pytest.mark.filterwarnings("default:The score of example")
@pytest.mark.parametrize("name", JUDGED)
def test_scores_that_depend_on_the_batch_are_warned_of(name, x):
    model = OfTheBatch().eval()

    with pytest.warns(UserWarning, match="changes from call to call"):
        explain(name, model, model.net[3], x)


@every_method
def test_a_child_in_training_mode_is_warned_of_once_and_not_changed(name, x, recwarn):
    model = network().insert(1, nn.BatchNorm2d(8)).eval()
    model[1].train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    explain(name, model, model[4], x)

    training = [w for w in recwarn if "in training mode" in str(w.message)]
    assert len(training) == 1
    assert "BatchNorm2d '1'" in str(training[0].message)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
