import json

import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from torch import nn

from captum_iscam import (
    RISE,
    LayerAblationCAM,
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerPolyCAM,
    LayerReciproCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)
from captum_iscam._utils.hooks import count_passes
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.methods import (
    METHODS,
    Method,
    Options,
    find_methods,
    register_method,
)
from captum_iscam.metrics import CenterMap, ChannelMean, RandomMap
from captum_iscam.targets import contrast, similar_classes

CALLS = {
    "is-cam": lambda m, x, t: LayerIntegratedScoreCAM(m, m[0]).attribute(x, t),
    "ss-cam": lambda m, x, t: LayerSmoothedScoreCAM(m, m[0]).attribute(
        x, t, n_samples=4, generator=torch.Generator().manual_seed(3)
    ),
    "score-cam": lambda m, x, t: LayerScoreCAM(m, m[0]).attribute(x, t),
    "integrated-grad-cam": lambda m, x, t: LayerIntegratedGradCAM(m, m[0]).attribute(
        x, target=t
    ),
    "grad-cam": lambda m, x, t: LayerGradCam(m, m[0]).attribute(
        x, t, relu_attributions=True
    ),
    "finer-cam": lambda m, x, t: LayerGradCam(contrast(m), m[0]).attribute(
        x,
        t,
        additional_forward_args=similar_classes(m(x), 3),
        relu_attributions=True,
    ),
    "grad-cam++": lambda m, x, t: LayerGradCAMPlusPlus(m, m[0]).attribute(x, t),
    "smooth-grad-cam++": lambda m, x, t: LayerSmoothGradCAMPlusPlus(m, m[0]).attribute(
        x, t, n_samples=4, generator=torch.Generator().manual_seed(3)
    ),
    "layer-cam": lambda m, x, t: LayerCAM(m, m[0]).attribute(x, t),
    "hires-cam": lambda m, x, t: LayerHiResCAM(m, m[0]).attribute(x, t),
    "xgrad-cam": lambda m, x, t: LayerXGradCAM(m, m[0]).attribute(x, t),
    "ablation-cam": lambda m, x, t: LayerAblationCAM(m, m[0]).attribute(x, t),
    "recipro-cam": lambda m, x, t: LayerReciproCAM(m, m[0]).attribute(x, t),
    "poly-cam": lambda m, x, t: LayerPolyCAM(m, m[0]).attribute(x, t),
    "rise": lambda m, x, t: RISE(m).attribute(
        x, t, n_masks=40, generator=torch.Generator().manual_seed(3)
    ),
    "integrated-gradients": lambda m, x, t: (
        IntegratedGradients(m).attribute(x, target=t).sum(1, keepdim=True).relu()
    ),
    "occlusion": lambda m, x, t: (
        Occlusion(m).attribute(x, (3, 1, 1), target=t).sum(1, keepdim=True).relu()
    ),
    "random-map": lambda m, x, t: RandomMap(
        m, m[0], generator=torch.Generator().manual_seed(3)
    ).attribute(x, t),
    "center-map": lambda m, x, t: CenterMap(m, m[0]).attribute(x),
    "channel-mean": lambda m, x, t: ChannelMean(m, m[0]).attribute(x),
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(4 * 9, 5)).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


# So small a model, untrained, has classes that no channel supports.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero everywhere", "ignore:The score of example"
)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_table_is_the_class_with_its_defaults(name, model, images):
    found = METHODS[name].attribute(
        model, model[0], images, [0, 1], Options(n_samples=4, seed=3, n_masks=40)
    )

    expected = CALLS[name](model, images, [0, 1])
    torch.testing.assert_close(found, expected.detach())
    assert not found.requires_grad
    assert found.shape[:2] == (2, 1)
    assert (found >= 0).all()


def calls_of(method, monkeypatch):
    """Returns a list that grows by the target of each call of the method's class."""
    calls, attribute = [], method.attribution.attribute

    # Not by position, where Captum's classes and ours differ.
    def counted(self, inputs, *, target, **arguments):
        calls.append(target)
        return attribute(self, inputs, target=target, **arguments)

    monkeypatch.setattr(method.attribution, "attribute", counted)
    return calls


@pytest.mark.parametrize("name", METHODS)
def test_several_targets_have_the_maps_of_a_call_for_each(
    name, model, images, monkeypatch
):
    options = Options(n_samples=4, seed=3, n_masks=40)
    calls = calls_of(METHODS[name], monkeypatch)

    def explain(target):
        return METHODS[name].attribute(model, model[0], images, target, options)

    together = explain([[0, 3, 1], [1, 3, 4]])

    asked = len(calls)
    expected = torch.cat([explain(column) for column in ([0, 1], [3, 3], [1, 4])], 1)
    torch.testing.assert_close(together, expected)
    assert together.shape[:2] == (2, 3)
    assert not together.requires_grad
    assert asked == (3 if name in ONE_BY_ONE else 1)


# Captum's own classes, and controls, which look at no target.
ONE_BY_ONE = {
    "integrated-gradients",
    "occlusion",
    "random-map",
    "center-map",
    "channel-mean",
}


@pytest.mark.parametrize("name", ["is-cam", "grad-cam"])
def test_a_row_of_targets_stands_for_all_examples(name, model, images):
    row, rows = (
        METHODS[name].attribute(model, model[0], images, target)
        for target in (torch.tensor([[0, 3]]), [[0, 3], [0, 3]])
    )

    torch.testing.assert_close(row, rows)


def test_several_targets_of_score_cam_share_the_passes_of_one(model, images):
    rows = []
    for target in (0, [[0, 3, 1]]):
        with count_passes(model) as passes:
            METHODS["score-cam"].attribute(model, model[0], images, target)
        rows.append(passes.rows)

    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", METHODS)
def test_the_batch_size_changes_passes_but_no_map(name, model, images):
    small = Options(n_samples=4, internal_batch_size=7, n_masks=40)
    usual = Options(n_samples=4, n_masks=40)

    with count_passes(model) as passes:
        in_parts = METHODS[name].attribute(model, model[0], images, 0, small)
    at_once = METHODS[name].attribute(model, model[0], images, 0, usual)

    torch.testing.assert_close(in_parts, at_once, rtol=1e-4, atol=1e-6)
    assert passes.rows <= 7 * passes.calls


@pytest.mark.parametrize("name", METHODS)
def test_the_global_random_state_is_left_alone(name, model, images):
    before = torch.get_rng_state()

    options = Options(n_samples=4, n_masks=40)
    METHODS[name].attribute(model, model[0], images, 0, options)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:The noise leaves no channel")
@pytest.mark.parametrize("name", ["ss-cam", "smooth-grad-cam++", "rise", "random-map"])
def test_the_seed_makes_the_noise(name, model, images):
    # Noise changes no gradient of a model that is linear after the layer.
    bent = nn.Conv2d(4, 4, 1), nn.Tanh()
    model = nn.Sequential(model[0], *bent, *model[1:]).eval()
    image, classes = images[:1].expand(5, -1, -1, -1), [0, 1, 2, 3, 4]

    maps = [
        METHODS[name].attribute(
            model, model[0], image, classes, Options(4, seed, n_masks=40)
        )
        for seed in (1, 1, 2)
    ]

    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("name", METHODS)
def test_settings_can_be_written_down(name):
    settings = METHODS[name].settings(Options(n_samples=4, seed=3))

    assert json.loads(json.dumps(settings)) == settings


def test_settings_hold_defaults_and_what_was_asked_for():
    options = Options(n_samples=4, seed=3, internal_batch_size=8)

    noisy, integral = (METHODS[n].settings(options) for n in ("ss-cam", "is-cam"))

    assert (noisy["n_samples"], noisy["seed"], noisy["noise"]) == (4, 3, "input")
    few = Options(screening=0.4)
    taking = {name for name in METHODS if "screening" in METHODS[name].settings(few)}
    assert taking == {"is-cam", "ss-cam", "score-cam", "poly-cam"}
    assert METHODS["ss-cam"].settings(few)["screening"] == 0.4
    assert METHODS["score-cam"].settings(options)["screening"] is None
    assert METHODS["is-cam"].settings(few)["screening"] == 0.4
    assert (integral["method"], integral["n_steps"]) == ("gaussradau", 3)
    assert integral["screening"] == 0.45
    assert "tolerance" not in integral
    assert noisy["stdevs"] == "(2 / range)**2 of the masked input"
    of_size = METHODS["ss-cam"].settings(Options(stdevs=0.2))
    assert of_size["stdevs"] == 0.2
    assert integral["internal_batch_size"] == 8
    assert "n_samples" not in integral


def test_a_number_of_steps_is_a_rule_for_every_channel(model, images):
    options = Options(n_steps=10)
    settings = METHODS["is-cam"].settings(options)

    maps = METHODS["is-cam"].attribute(model, model[0], images, 1, options)

    assert (settings["method"], settings["n_steps"]) == ("gausslegendre", 10)
    assert settings["screening"] is None
    rule = LayerIntegratedScoreCAM(model, model[0])
    assert torch.equal(maps, rule.attribute(images, 1, n_steps=10))


@pytest.mark.filterwarnings("ignore:Lazy modules")  # of older torch
def test_the_window_of_occlusion_follows_the_size_of_the_input():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 16), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    ).eval()
    image = torch.rand(1, 3, 32, 64)

    found = METHODS["occlusion"].attribute(model, model[0], image, 1)

    expected = Occlusion(model).attribute(image, (3, 4, 8), (3, 2, 4), target=1)
    torch.testing.assert_close(found, expected.sum(1, keepdim=True).relu())


def test_settings_of_rise():
    settings = METHODS["rise"].settings(Options(n_masks=40, seed=3))

    assert (settings["n_masks"], settings["seed"]) == (40, 3)
    assert (settings["grid"], settings["keep_probability"]) == (7, 0.5)


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_is_captums_where_there_are_maps(model, images, relu):
    arguments = {"target": [0, 1], "relu_attributions": relu}

    ours = GradCAM(model, model[0]).attribute(images, **arguments)

    theirs = LayerGradCam(model, model[0]).attribute(images, **arguments)
    torch.testing.assert_close(ours, theirs.detach())


def test_passes_are_counted_as_calls_and_rows(model, images):
    with count_passes(model) as passes:
        model(images)
        model(images[:1])
    model(images)

    assert (passes.calls, passes.rows, passes.backward_rows) == (2, 3, 0)


def test_gradients_are_counted_until_counting_ends(model, images):
    with count_passes(model) as passes:
        METHODS["integrated-gradients"].attribute(model, model[0], images, 0)
        output = model(images)
    output.sum().backward()

    # Captum's 50 steps for each of two images, forward and backward; the images, alone
    # and next to their baselines; and a faint one, next to them and alone.
    assert passes.backward_rows == 2 * 50
    assert passes.rows == 2 * 50 + 2 + 5 + 2 + 2


def test_score_cam_shows_the_model_each_channel_once(model, images):
    with count_passes(model) as passes:
        METHODS["score-cam"].attribute(model, model[0], images, 0)

    # The layer's pass, the baseline and a masked input for each of four channels, and
    # the first input at a quarter of its strength, among others and as two
    # copies.
    assert passes.rows == 2 * (3 + 4) + 3


def test_counting_ends_when_the_model_fails(model):
    with pytest.raises(RuntimeError, match="channels"), count_passes(model) as passes:
        model(torch.rand(1, 9, 8, 8))

    assert passes.calls == 1
    assert not model._forward_pre_hooks


def test_methods_are_found_by_name():
    assert find_methods("Score-CAM, is-cam,score-cam") == ["score-cam", "is-cam"]


def test_all_are_all_but_the_controls():
    everything, controls = find_methods("all"), find_methods("controls")

    assert {*everything, *controls} == set(METHODS)
    assert {"is-cam", "occlusion"} < set(everything)
    assert controls == ["random-map", "center-map", "channel-mean"]
    assert find_methods("controls,all,is-cam") == [*controls, *everything]


@pytest.mark.parametrize("names", ["is-cam,nonsense", "", ","])
def test_unknown_methods_list_what_exists(names):
    with pytest.raises(ValueError, match=r"method must be .* got .*is-cam, ss-cam"):
        find_methods(names)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr("captum_iscam.methods.METHODS", dict(METHODS))


def test_a_registered_method_is_known_by_its_name(table):
    register_method("mine", Method("Mine", LayerScoreCAM))
    register_method("mine", Method("Mine, again", LayerScoreCAM))

    assert find_methods("mine") == ["mine"]
    assert "mine" in find_methods("all")
    assert "mine" not in METHODS


@pytest.mark.parametrize(
    ("name", "takes", "message"),
    [
        ("score-cam", (), "that no method or group has, got 'score-cam'"),
        ("all", (), "that no method or group has, got 'all'"),
        ("../mine", (), r"name must be lower-case letters, .* got '../mine'"),
        ("Mine", (), "name must be lower-case letters, .* got 'Mine'"),
        ("mine", ("sead",), "takes must be names of options, got sead in mine"),
    ],
)
def test_a_method_that_cannot_be_named_or_called_is_refused(
    name, takes, message, table
):
    with pytest.raises(ValueError, match=message):
        register_method(name, Method("Mine", LayerIntegratedScoreCAM, takes))


def test_poly_cam_combines_the_last_layer_of_each_size():
    torch.manual_seed(0)
    fine = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    coarse = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
    model = nn.Sequential(fine, coarse, nn.Flatten(), nn.Linear(6 * 16, 5)).eval()
    x = torch.rand(1, 3, 8, 8)

    found = METHODS["poly-cam"].attribute(model, coarse, x, 1)

    expected = LayerPolyCAM(model, [coarse, fine]).attribute(x, 1)
    torch.testing.assert_close(found, expected)
    assert found.shape == x[:, :1].shape


@pytest.mark.parametrize(
    ("names", "near"),
    [("gradcam", "grad-cam"), ("is-cam,scorecam,iscam", "score-cam, is-cam")],
)
def test_unknown_methods_are_answered_with_the_closest(names, near):
    with pytest.raises(ValueError, match=rf"Did you mean {near}\? Known are: "):
        find_methods(names)
