"""Captum's own acceptance cases, which its 0.9 wheel carries."""

import copy

import pytest
import torch
from reference.methods import GRADIENT_METHODS, METHODS, SCORE_METHODS, attribute

from captum_iscam import LayerScoreCAM

config = pytest.importorskip("captum.testing.attr.helpers.test_config").config
utils = pytest.importorskip("captum.testing.attr.helpers.gen_test_utils")
models = pytest.importorskip("captum.testing.helpers.basic_models")
LayerGradCam = pytest.importorskip("captum.attr").LayerGradCam

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The scores of masked inputs differ by little",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
    "ignore:The model is in training",
    "ignore:The model's outputs already",
)
CASES = {case["name"]: case for case in config if LayerGradCam in case["algorithms"]}


def parts(case):
    _, model, args, layer, _, _ = utils.parse_test_config(case)
    model = copy.deepcopy(model)
    return model, utils.get_target_layer(model, layer), dict(args)


def one_by_one(attribute_one, args, count):
    """The map of every example alone."""

    def row(value, n):
        if isinstance(value, (torch.Tensor, list)) and len(value) == count:
            return value[n : n + 1]
        return tuple(row(v, n) for v in value) if isinstance(value, tuple) else value

    outs = []
    for n in range(count):
        target = args.get("target")
        alone = {key: row(value, n) for key, value in args.items() if key != "target"}
        if target is not None:
            of_rows = isinstance(target, (list, torch.Tensor)) and len(target) == count
            alone["target"] = target[n] if of_rows else target
        out = attribute_one(**alone)
        outs.append(out if isinstance(out, tuple) else (out,))
    return [torch.cat(column) for column in zip(*outs, strict=True)]


def assert_rows_agree(attribute_one, args):
    inputs = args["inputs"]
    count = len(inputs[0] if isinstance(inputs, tuple) else inputs)
    together = attribute_one(**args)
    together = together if isinstance(together, tuple) else (together,)
    alone = one_by_one(attribute_one, args, count)
    for out, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_captum_has_the_cases_we_count_on():
    assert len(CASES) == 7


@pytest.mark.parametrize("name", GRADIENT_METHODS)
@pytest.mark.parametrize("case", CASES)
def test_gradient_methods_pass_every_grad_cam_case(name, case):
    model, layer, args = parts(CASES[case])

    assert_rows_agree(lambda **own: attribute(name, model, layer, **own), args)


@pytest.mark.parametrize("name", CASES)
def test_score_methods_refuse_layers_without_maps(name):
    model, layer, args = parts(CASES[name])
    explain = LayerScoreCAM(model, layer, score="identity")

    if isinstance(layer, torch.nn.Conv2d):
        assert_rows_agree(explain.attribute, args)
    else:
        with pytest.raises(ValueError, match="inputs must have positions to be mask"):
            explain.attribute(**args)


@pytest.mark.parametrize("name", SCORE_METHODS)
@pytest.mark.parametrize(
    ("model", "layer", "size"),
    [
        ("BasicModel_ConvNet", "conv2", (4, 1, 10, 10)),
        ("BasicModel_ConvNet_MaxPool1d", "conv2", (4, 1, 10)),
        ("BasicModel_ConvNet_MaxPool3d", "conv2", (4, 1, 10, 10, 10)),
        ("BasicModel_ConvNet_One_Conv", "conv1", (4, 1, 4, 4)),
        ("BasicModel_ConvNet_One_Conv", "relu1", (4, 1, 4, 4)),
    ],
)
@pytest.mark.parametrize(
    "target", [1, [0, 1, 1, 0], torch.tensor([0, 1, 1, 0])], ids=str
)
# These models end in a softmax that is saturated for such inputs.
@pytest.mark.filterwarnings("ignore:The scores of masked inputs differ by little")
def test_conv_twins_of_the_target_cases(name, model, layer, size, target):
    net = getattr(models, model)().eval()
    x = 100 * torch.randn(size)

    def run(**own):
        return attribute(
            name, net, getattr(net, layer), constructor={"score": "identity"}, **own
        )

    assert_rows_agree(run, {"inputs": x, "target": target})


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_two_inputs_of_captums_conv_model(name):
    net = models.BasicModel_ConvNet_One_Conv().eval()
    x = (torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4))

    def run(**own):
        return attribute(name, net, net.conv1, constructor={"score": "identity"}, **own)

    assert_rows_agree(run, {"inputs": x, "target": 0})


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_an_in_place_relu(name):
    plain = models.BasicModel_ConvNet_One_Conv().eval()
    inplace = models.BasicModel_ConvNet_One_Conv(inplace=True).eval()
    inplace.load_state_dict(plain.state_dict())
    x, score = torch.randn(2, 1, 4, 4), {"score": "identity"}

    out = attribute(name, inplace, inplace.conv1, x, 0, constructor=score)

    expected = attribute(name, plain, plain.conv1, x, 0, constructor=score)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("name", METHODS)
def test_a_bad_target_leaves_no_hook(name):
    net = models.BasicModel_ConvNet_One_Conv().eval()

    with pytest.raises(AssertionError):
        attribute(name, net, net.conv1, torch.randn(2, 1, 4, 4), (1, 2, 3, 4))

    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("name", METHODS)
def test_a_layer_called_twice_gives_its_last_call(name):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Conv2d(1, 1, 3, padding=1)
            self.head = torch.nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.features(self.features(x)).flatten(1))

    net, x = Twice().eval(), torch.randn(2, 1, 4, 4)

    class Once(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Identity()

        def forward(self, x):
            return net.head(self.last(net.features(net.features(x))).flatten(1))

    once = Once().eval()

    with pytest.warns(UserWarning, match="runs 2 times in a pass"):
        out = attribute(name, net, net.features, x, 1)

    torch.testing.assert_close(out, attribute(name, once, once.last, x, 1))
