"""Errors: what they say, and that they come before any masked pass."""

import pytest
import torch
from reference.methods import (
    BASELINE_METHODS,
    GRADIENT_METHODS,
    METHODS,
    POSITION_METHODS,
    SCORE_METHODS,
    attribute,
)
from reference.networks import ConvNet, images
from reference.spies import Calls
from torch import nn

from captum_iscam import (
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)

every_method = pytest.mark.parametrize("name", METHODS)
every_score_method = pytest.mark.parametrize("name", SCORE_METHODS)
every_gradient_method = pytest.mark.parametrize("name", GRADIENT_METHODS)


@pytest.fixture
def net():
    return ConvNet().double()


def refuses(name, net, layer, x, target, error, match, constructor=None, **options):
    """The error comes, before any masked pass, and leaves no hook behind."""
    model = Calls(net)
    with pytest.raises(error, match=match):
        attribute(name, model, layer, x, target, constructor=constructor, **options)
    assert sum(model.rows) <= len(x if isinstance(x, torch.Tensor) else x[0])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@every_score_method
def test_a_layer_without_spatial_output(name, net):
    match = r"layer must have a spatial output .* got the shape \(2, 5\)"
    refuses(name, net, net.head, images(2), 1, ValueError, match)


@every_score_method
def test_a_layer_with_a_single_place(name):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.eval()
    x = images(2, dtype=torch.float32)
    match = r"more than one position, got one position, the shape \(2, 4, 1, 1\)"
    refuses(name, net, net[1], x, 1, ValueError, match)


@every_method
def test_tokens_without_a_transform(name):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.AdaptiveAvgPool1d(1))
    net = nn.Sequential(net, nn.Flatten()).eval()
    match = (
        "as many spatial dimensions as an input"
        if name in POSITION_METHODS
        else "layer must give maps"
    )
    match += r".*layers\.reshape_transform_for\(model, layer, inputs\) finds"
    match += r".*captum_iscam\.reshape_transforms are vit .*swin .*maxvit.*tokens\("
    x = images(2, dtype=torch.float32)
    refuses(name, net, net[0][1], x, 1, ValueError, match)


@every_method
def test_a_layer_that_mixes_the_examples(name, net):
    class Folded(nn.Module):
        def forward(self, x):
            return x.flatten(0, 1).unsqueeze(1)

    folded = Folded()

    def model(x):
        return net(folded(x).view(x.shape))

    with pytest.raises(ValueError, match="layer must keep one row per example"):
        attribute(name, model, folded, images(2), 1)


@every_method
def test_a_layer_that_gives_nested_tuples(name):
    class Nested(nn.Module):
        def forward(self, x):
            return x, (x, x)

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = Nested()
            self.head = nn.Linear(14, 3)

        def forward(self, x):
            return self.head(self.cell(x.mean(1))[0][:, -1])

    net, x = Recurrent().eval(), images(2, dtype=torch.float32)
    match = "layer must give a tensor or a tuple of tensors"
    refuses(name, net, net.cell, x, 1, TypeError, match)


@every_method
def test_a_layer_that_did_not_run(name, net):
    stranger = nn.Conv2d(3, 4, 3)
    match = "layer must run in the forward pass, got a Conv2d that did not"
    refuses(name, net, stranger, images(2), 1, ValueError, match)


@pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
@every_method
def test_a_list_of_layers_of_which_one_never_runs(name, net):
    layers = [net.features, nn.Conv2d(3, 4, 3)]

    with pytest.raises(ValueError, match="layer must run in the forward pass"):
        attribute(name, net, layers, images(2), 1)

    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@every_gradient_method
@pytest.mark.parametrize("reach", ["unused", "no gradients"])
def test_a_layer_that_does_not_reach_the_score(name, net, reach):
    def model(x):
        if reach == "unused":
            net.features(x)
            return net.head(x.flatten(1)[:, :8])
        with torch.no_grad():
            return net(x)

    match = "layer must lead to the score by gradients, got a Sequential that"
    with pytest.raises(ValueError, match=match):
        attribute(name, model, net.features, images(2), 1)


@every_gradient_method
def test_errors_of_the_model_itself_pass_through(name, net):
    def model(x):
        if torch.is_grad_enabled():
            raise RuntimeError("the model is tired")
        return net(x)

    with pytest.raises(RuntimeError, match="the model is tired"):
        attribute(name, model, net.features, images(2), 1)


@every_gradient_method
def test_a_layer_without_channels(name, net):
    class Total(nn.Module):
        def forward(self, x):
            return x.sum(1)

    total = Total()

    def model(x):
        return net.head.weight.sum(1) * total(x.flatten(1))[:, None]

    with pytest.raises(ValueError, match=r"layer must give channels .* shape \(2,\)"):
        attribute(name, model, total, images(2), 1)


@every_method
@pytest.mark.skipif(
    hasattr(torch.compiler, "set_stance"), reason="since torch 2.6 its hooks run"
)
def test_a_layer_inside_compiled_code(name, net):
    compiled = torch.compile(net, backend="eager")
    compiled(images(2))
    with torch.no_grad():
        compiled(images(2))

    with pytest.raises(ValueError, match="pass the compiled model itself"):
        attribute(name, lambda x: compiled(x), net.features, images(2), 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@every_method
def test_scripted_layers(name, net):
    traced = torch.jit.trace(net, images(2))

    with pytest.raises(TypeError, match="layer must be an ordinary module"):
        attribute(name, traced, traced.features, images(2), 1)


@every_method
@pytest.mark.parametrize("layer", ["features", None, [nn.ReLU(), "head"]], ids=str)
def test_a_layer_that_is_no_module(name, net, layer):
    refuses(name, net, layer, images(2), 1, TypeError, "layer must be a module")


@every_method
def test_an_empty_list_of_layers(name, net):
    refuses(name, net, [], images(2), 1, ValueError, r"at least one module, got \[\]")


@every_method
@pytest.mark.parametrize(
    "target", [5, -6, [1, 7], torch.tensor([1, 9]), [1, -1], (8,)], ids=str
)
def test_a_target_out_of_range(name, net, target):
    match = r"target must be an index from 0 to 4, got -?\d"
    refuses(name, net, net.features, images(2), target, ValueError, match)


@every_method
def test_captums_own_error_for_a_target_of_the_wrong_form(name, net):
    refuses(name, net, net.features, images(2), (1, 2, 3), AssertionError, "target")
    match = "target must have one entry per example"
    refuses(name, net, net.features, images(2), [1, 2, 3], AssertionError, match)


@every_method
def test_no_target_where_one_is_needed(name, net):
    match = "target must pick one number per example"
    refuses(name, net, net.features, images(2), None, ValueError, match)


@every_method
@pytest.mark.parametrize("size", [0, -3, 2.5, "4", True])
def test_chunk_sizes(name, net, size):
    match = "internal_batch_size must be an integer of at least 1 or None, got"
    refuses(
        name,
        net,
        net.features,
        images(2),
        1,
        ValueError,
        match,
        internal_batch_size=size,
    )


@pytest.mark.parametrize("name", ["is-cam", "integrated grad-cam"])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_steps": 0}, "n_steps must be an integer of at least 1, got 0"),
        ({"n_steps": 2.0}, "n_steps must be an integer of at least 1, got 2.0"),
        ({"n_steps": 10**7}, 'n_steps must be smaller for method "gausslegendre"'),
        ({"n_steps": 1, "method": "riemann_left"}, "n_steps must be at least 2"),
        ({"n_steps": 1, "method": "riemann_trapezoid"}, "n_steps must be at least 2"),
        ({"method": "simpson"}, "method must be one of .*, got 'simpson'"),
    ],
)
def test_paths(name, net, options, match):
    refuses(name, net, net.features, images(2), 1, ValueError, match, **options)


def test_the_recurrence_is_a_rule_of_is_cam_alone(net):
    with pytest.raises(ValueError, match="n_steps must be at least 2"):
        LayerIntegratedScoreCAM(net, net.features).attribute(
            images(2), 1, n_steps=1, method="recurrence"
        )
    with pytest.raises(ValueError, match="method must be one of"):
        LayerIntegratedGradCAM(net, net.features).attribute(
            images(2), target=1, method="recurrence"
        )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1, got 0"),
        ({"noise": "output"}, 'noise must be one of "input", "mask", got'),
        ({"noise": "mask"}, 'stdevs must be given for noise="mask"'),
        ({"stdevs": -1.0}, "stdevs must be finite and at least 0, got -1.0"),
        ({"stdevs": float("nan")}, "stdevs must be finite and at least 0, got nan"),
        ({"stdevs": (None,)}, "stdevs must be finite and at least 0, got None"),
        ({"stdevs": (0.1, 0.2)}, "one number for each masked input, got 2 for 1"),
    ],
)
def test_noise(net, options, match):
    with pytest.raises(ValueError, match=match):
        LayerSmoothedScoreCAM(net, net.features).attribute(images(2), 1, **options)


@every_method
def test_scores(name, net):
    with pytest.raises(ValueError, match=r"score must be one of .*, got 'logits'"):
        METHODS[name][0](net, net.features, score="logits")


@every_method
def test_transforms_that_cannot_be_called(name, net):
    with pytest.raises(TypeError, match="reshape_transform must be a callable"):
        METHODS[name][0](net, net.features, reshape_transform=(7, 7))


@pytest.mark.parametrize("name", BASELINE_METHODS)
@pytest.mark.parametrize(
    ("baselines", "error", "match"),
    [
        (torch.zeros(3, 11, 14).double(), ValueError, "baselines must have the shape"),
        (torch.zeros(3, 3, 11, 14), ValueError, r"or \(1, 3, 11, 14\) of its input"),
        (torch.zeros(2, 3, 14, 11), ValueError, "baselines must have the shape"),
        ((0, 0), ValueError, "baselines must hold one entry per input, got 2 for 1"),
        ("black", TypeError, "baselines must be numbers or tensors, got str"),
        (
            torch.zeros(2, 3, 11, 14, device="meta"),
            ValueError,
            "baselines must be on the device of the inputs, cpu, got meta",
        ),
    ],
)
def test_baselines(name, net, baselines, error, match):
    refuses(name, net, net.features, images(2), 1, error, match, baselines=baselines)


@every_method
def test_inputs_on_two_devices(name, net):
    x = (images(2), images(2).to("meta"))
    match = "inputs must be on one device with the model, got cpu, meta"
    refuses(name, net, net.features, x, 1, ValueError, match)
    with pytest.raises(ValueError, match=match):
        attribute(name, net, net.features, images(2).to("meta"), 1)


@every_method
def test_integer_inputs(name, net):
    x = torch.randint(0, 255, (2, 3, 11, 14))

    with pytest.raises(TypeError, match=r"must be floating point.*inputs\.float\(\)"):
        attribute(name, lambda z: net(z.double()), net.features, x, 1)


@every_method
@pytest.mark.parametrize("wrap", [False, True])
def test_integer_images_for_a_plain_network(name, net, wrap):
    x = torch.randint(0, 255, (2, 3, 11, 14), dtype=torch.uint8)
    x = (x, torch.rand(2, 4)) if wrap else x

    with pytest.raises(TypeError, match=r"must be floating point.*inputs\.float\(\)"):
        attribute(name, net, net.features, x, 1)


@every_score_method
def test_a_bad_second_layer_is_refused_before_the_first_is_scored(name, net):
    match = "layer must have a spatial output"
    model = Calls(net)
    with pytest.raises(ValueError, match=match):
        attribute(name, model, [net.features, net.head], images(2), 1)
    assert sum(model.rows) == 4


@every_method
def test_models_that_cannot_be_called(name, net):
    with pytest.raises(TypeError, match="forward_func must be a model or another"):
        METHODS[name][0](None, net.features)


@every_method
@pytest.mark.parametrize("score", [[], None, 3], ids=str)
def test_scores_that_are_no_names(name, net, score):
    with pytest.raises(ValueError, match="score must be one of"):
        METHODS[name][0](net, net.features, score=score)


@every_method
@pytest.mark.parametrize(
    ("score", "error", "match"),
    [
        (lambda out: out.sum(), ValueError, "score must return one row per example"),
        (lambda out: 1.0, TypeError, "score must return a tensor, got float"),
    ],
    ids=["scalar", "number"],
)
def test_scores_that_return_something_else(name, net, score, error, match):
    own = {"constructor": {"score": score}}
    refuses(name, net, net.features, images(2), 1, error, match, **own)


@every_method
def test_targets_that_are_no_integers(name, net):
    target = torch.tensor([1.0, 2.0])
    match = r"target must hold integers, got torch\.float32"
    refuses(name, net, net.features, images(2), target, TypeError, match)


@every_score_method
def test_transforms_that_give_no_tensor(name, net):
    constructor = {"reshape_transform": lambda out: [out]}
    match = "reshape_transform must return a tensor"
    refuses(
        name,
        net,
        net.features,
        images(2),
        1,
        TypeError,
        match,
        constructor=constructor,
    )


def test_generators(net):
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator"):
        LayerSmoothedScoreCAM(net, net.features).attribute(images(2), 1, generator=3)


@every_score_method
def test_nan_for_the_unmasked_input_alone(name, net):
    x = images(2)

    def model(z):
        return (
            net(z) + torch.where((z == x[1]).flatten(1).all(1), torch.nan, 0.0)[:, None]
        )

    match = "in the pass of the unmasked input of example 1"
    with pytest.raises(RuntimeError, match=match):
        attribute(name, model, net.features, x, 1)


def test_nan_at_the_baseline_of_integrated_grad_cam():
    class Logarithm(nn.Module):
        def forward(self, x):
            return torch.log(x)

    layer = Logarithm()

    def model(x):
        return torch.nan_to_num(layer(x)).mean((2, 3))

    with pytest.raises(RuntimeError, match="from the layer in the first pass"):
        LayerIntegratedGradCAM(model, layer).attribute(images(1).abs() + 1, target=1)


@every_method
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        ([1.0], TypeError, "inputs must be a tensor or a tuple of tensors, got list"),
        ((images(2), images(3)), ValueError, "inputs must share a first dimension"),
        (images(2)[:0], ValueError, "at least one example"),
        (torch.tensor(1.0), ValueError, "at least one example"),
    ],
    ids=["list", "lengths", "empty", "scalar"],
)
def test_inputs(name, net, x, error, match):
    with pytest.raises(error, match=match):
        attribute(name, net, net.features, x, 1)


@every_score_method
@pytest.mark.parametrize("columns", [1, None])
def test_softmax_of_one_class(name, net, columns):
    def model(x):
        return net(x)[:, :1] if columns else net(x)[:, 0]

    with pytest.raises(ValueError, match='Use score="sigmoid" for a single logit'):
        attribute(name, model, net.features, images(2), 0)


@pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
@every_score_method
def test_a_second_softmax_is_noticed(name, net):
    with pytest.warns(
        UserWarning, match=r'already are probabilities.*score="identity"'
    ):
        attribute(name, lambda x: net(x).softmax(1), net.features, images(2), 1)


@every_method
@pytest.mark.parametrize(
    ("output", "error", "match"),
    [
        (lambda out: {"logits": out}, TypeError, "must return a tensor, got dict"),
        (lambda out: out.sum(), ValueError, "one row per example, got an output of"),
        (lambda out: out[:1], ValueError, "one row per example, got an output of"),
    ],
    ids=["dict", "scalar", "row"],
)
def test_outputs(name, net, output, error, match):
    with pytest.raises(error, match=match):
        attribute(name, lambda x: output(net(x)), net.features, images(2), 1)


@every_score_method
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_says_in_which_pass(name, net, value):
    def breaks_at(row):
        seen = []

        def model(x):
            out = net(x)
            seen.extend(range(len(x)))
            if row in range(len(seen) - len(x), len(seen)):
                out = out * value
            return out

        return model

    options = {"constructor": {"score": "identity"}, "internal_batch_size": 1}
    with pytest.raises(RuntimeError, match="in the baseline pass of example 1"):
        attribute(name, breaks_at(5), net.features, images(2), 1, **options)
    match = r"in the masked pass of example 0, channel 0, at strength"
    with pytest.raises(RuntimeError, match=match):
        attribute(name, breaks_at(7), net.features, images(2), 1, **options)


@every_score_method
def test_nan_in_the_inputs(name, net):
    x = images(2)
    x[0, 0, 0, 0] = float("nan")
    match = "from the layer in the pass of the unmasked inputs"
    refuses(name, net, net.features, x, 1, RuntimeError, match)


@every_gradient_method
@pytest.mark.parametrize("where", ["score", "gradient"])
def test_nan_in_a_pass_with_gradients(name, net, where):
    def model(x):
        if not torch.is_grad_enabled():
            return net(x)
        bright = (x.amax((1, 2, 3)) > 1)[:, None]
        if where == "score":
            return net(x) + torch.where(bright, torch.nan, 0.0)
        out = net(x)
        return out + torch.where(bright, (out - out).abs().sqrt(), 0.0)

    match = r"in the pass of example \d (at strength|with gradients|with the noise of)"
    with pytest.raises(RuntimeError, match=match):
        attribute(name, model, net.features, images(2), 1)


def test_nan_names_the_example_and_the_sample(net):
    calls = []

    def model(x):
        calls.append(len(x))
        return net(x) * (torch.nan if len(calls) == 5 else 1)

    # The inputs come first, then both examples with the noise of each sample.
    with pytest.raises(RuntimeError, match="example 1 with the noise of sample 1"):
        attribute(
            "smooth grad-cam++",
            model,
            net.features,
            images(2),
            1,
            internal_batch_size=1,
        )


@pytest.mark.parametrize("name", ["grad-cam++", "smooth grad-cam++"])
def test_denominators(name, net):
    match = 'denominator must be one of "activations", "products", got \'sum\''
    refuses(name, net, net.features, images(2), 1, ValueError, match, denominator="sum")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1, got 0"),
        ({"n_samples": 2.0}, "n_samples must be an integer of at least 1, got 2.0"),
        ({"stdevs": None}, "stdevs must be a number, got None"),
        ({"stdevs": -1.0}, "stdevs must be finite and at least 0, got -1.0"),
        ({"stdevs": (None,)}, "stdevs must be finite and at least 0, got None"),
        ({"stdevs": (0.1, 0.2)}, "stdevs must hold one number for each .* 2 for 1"),
    ],
)
def test_noise_of_smooth_grad_cam(net, options, match):
    name = "smooth grad-cam++"
    refuses(name, net, net.features, images(2), 1, ValueError, match, **options)


@every_method
def test_training_mode_is_noticed(name, net):
    with pytest.warns(UserWarning, match=r"training mode.*model\.eval\(\)"):
        attribute(name, net.train(), net.features, images(2), 1)
    assert net.training


def test_warnings_point_at_the_callers_line(net):
    with pytest.warns(UserWarning, match="training mode") as caught:
        LayerScoreCAM(net.train(), net.features).attribute(images(2), 1)
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore:The map is zero")
def test_noise_that_leaves_no_signal_is_noticed():
    class Delicate(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.AvgPool2d(2)

        def forward(self, x):
            self.features(x)
            rough = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
            kept = x.mean((1, 2, 3)) * torch.exp(-100 * rough)
            return torch.stack([kept, torch.zeros_like(kept)], 1)

    net = Delicate().eval()
    x = torch.linspace(0, 1, 64).view(1, 1, 8, 8) + torch.zeros(1, 3, 1, 1)

    with pytest.warns(UserWarning, match="a hundredth of the confidence.*example 0"):
        LayerSmoothedScoreCAM(net, net.features).attribute(
            x, 0, n_samples=2, stdevs=3.0, relu_attributions=False
        )


def test_uniform_weights_are_noticed(net):
    with pytest.warns(UserWarning, match="all but equal for examples 0, 1.*identity"):
        LayerScoreCAM(net, net.features).attribute(images(2), 1, channel_softmax=True)
