"""Gradient methods explain several targets of an example in one forward pass."""

import pytest
import torch
from captum.attr import NoiseTunnel
from reference.methods import GRADIENT_METHODS, attribute
from reference.networks import ConvNet, TwoInputs, images
from reference.spies import LiveBytes, assert_same_state, state_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_iscam import LayerSmoothGradCAMPlusPlus
from captum_iscam._utils.hooks import count_passes
from captum_iscam.attr._gradients import LayerGradientMethod
from captum_iscam.attr.grad_cam import GradCAM

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
)
TARGETS = [[1, 4, 0], [2, 2, 3]]
EXACT = {"rtol": 1e-12, "atol": 1e-12}
VIEWS = {"integrated grad-cam": 4, "smooth grad-cam++": 3}
every_method = pytest.mark.parametrize("name", [*GRADIENT_METHODS, "grad-cam"])


def explain(name, model, layer, inputs, target, constructor=None, **options):
    if name != "grad-cam":
        return attribute(name, model, layer, inputs, target, constructor, **options)
    options.pop("internal_batch_size", None)
    method = GradCAM(model, layer, **(constructor or {}))
    return method.attribute(inputs, target, **options)


def assert_equals_calls(name, model, layer, inputs, targets=TARGETS, **options):
    """Compares the maps of `(N, T)` with those of `T` calls."""

    def alone(column):
        target = [row[column] for row in targets]
        return explain(name, model, layer, inputs, target, **options)

    together = explain(name, model, layer, inputs, targets, **options)
    calls = [alone(column) for column in range(len(targets[0]))]
    if isinstance(together, torch.Tensor):
        together, calls = [together], [[call] for call in calls]
    for out, each in zip(together, zip(*calls, strict=True), strict=True):
        torch.testing.assert_close(out, torch.cat(each, 1), **EXACT)
        assert out.shape[:2] == (len(targets), len(targets[0]))
        assert not out.requires_grad
        assert not torch.allclose(out[:, 0], out[:, 1])


@every_method
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_maps_are_those_of_a_call_for_each_target(name, spatial):
    net = ConvNet(spatial).double()

    assert_equals_calls(name, net, net.features, images(spatial=spatial))


@every_method
@pytest.mark.parametrize("size", [*range(1, 8), None])
def test_whatever_the_chunks(name, size):
    net, x = ConvNet().double(), images()
    assert_equals_calls(name, net, net.features, x, internal_batch_size=size)
    whole = explain(name, net, net.features, x, TARGETS, internal_batch_size=100)

    out = explain(name, net, net.features, x, TARGETS, internal_batch_size=size)

    torch.testing.assert_close(out, whole, **EXACT)


@every_method
def test_forms_of_several_targets(name):
    net, x = ConvNet().double(), images()
    expected = explain(name, net, net.features, x, [[1, 4], [1, 4]])

    for target in ([[1, 4]], torch.tensor([[1, 4], [1, 4]]), torch.tensor([[1, 4]])):
        out = explain(name, net, net.features, x, target)
        assert torch.equal(out, expected)
    one = explain(name, net, net.features, x, [[4], [2]])
    assert one.shape == (2, 1, *expected.shape[2:])
    torch.testing.assert_close(one, explain(name, net, net.features, x, [4, 2]))


@every_method
def test_options(name):
    net, x = ConvNet(inplace=True).double(), images()

    signed = {"relu_attributions": False}
    assert_equals_calls(name, net, net.features, x, **signed)
    assert_equals_calls(name, net, net.features[2], x, attribute_to_layer_input=True)
    assert_equals_calls(name, net, net.features, x, constructor={"score": "softmax"})
    assert_equals_calls(name, net, [net.features[0], net.mix][1], x, **signed)
    assert_equals_calls(name, nn.DataParallel(net), net.features, x)
    compiled = torch.compile(net, backend="eager")
    assert_equals_calls(name, compiled, net.features, x)
    with torch.no_grad():
        assert_equals_calls(name, net, net.features, x)


@every_method
def test_several_layers(name):
    net, x = ConvNet().double(), images()
    layers = [net.features, net.mix]

    out = explain(name, net, layers, x, TARGETS)

    for layer, maps in zip(layers, out, strict=True):
        assert torch.equal(maps, explain(name, net, layer, x, TARGETS))


class Pair(nn.Module):
    """Gives two outputs of different sizes."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3, stride=2)

    def forward(self, x):
        return self.one(x).relu(), self.two(x).relu()


class OfPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair, self.heads = (
            Pair(),
            nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 5)]),
        )
        self.eval()

    def forward(self, x):
        pooled = [maps.flatten(2).pow(2).mean(2) for maps in self.pair(x)]
        return sum(head(p) for head, p in zip(self.heads, pooled, strict=True))


@every_method
def test_a_layer_of_several_outputs(name):
    net = OfPair().double()

    assert_equals_calls(
        name, net, net.pair, images(), relu_attributions=False, internal_batch_size=3
    )


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 5)
        self.tokens = nn.Sequential(nn.Linear(6, 6), nn.GELU())
        self.eval()

    def forward(self, x):
        return self.head(self.tokens(self.embed(x).flatten(2).mT).pow(2).mean(1))


@every_method
def test_tokens(name):
    net = Tokens().double()
    transform = {"reshape_transform": lambda t: t.mT.reshape(len(t), 6, 2, 3)}

    assert_equals_calls(
        name,
        net,
        net.tokens,
        images(),
        constructor=transform,
        relu_attributions=False,
    )


@every_method
def test_layers_without_places(name):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)).double().eval()
    x = torch.rand(2, 3, dtype=torch.float64)

    if name == "grad-cam":
        pytest.skip("Captum's Grad-CAM needs places")
    assert_equals_calls(name, net, net[1], x, relu_attributions=False)


@every_method
def test_further_arguments_follow_their_examples(name):
    model = TwoInputs().double()
    x, other = images(2), images(2)[:, :, :8, :6]
    vector, scale = torch.rand(2, 4).double(), torch.tensor([1.0, 3.0]).double()

    assert_equals_calls(
        name,
        model,
        model.features,
        (x, other, vector),
        additional_forward_args=(2.0, scale),
        internal_batch_size=3,
    )


@every_method
@pytest.mark.parametrize("count", [1, 3])
def test_one_forward_and_t_backward_passes(name, count):
    net, x = ConvNet().double(), images()
    views = VIEWS.get(name, 1)

    with count_passes(net) as passes:
        targets = [row[:count] for row in TARGETS]
        explain(name, net, net.features, x, targets, internal_batch_size=2)

    # The first pass is without gradients, and so is the last one, of one row, or two.
    alone = 1 if views == 1 else 2
    assert passes.calls == 1 + views + alone
    assert passes.rows == 2 + 2 * views + alone
    assert passes.backward_rows == 2 * views * count


@every_method
def test_memory_holds_the_gradients_of_one_target(name):
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 9, 8))
    model = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    layer, x = 4 * 32 * 32 * 32, torch.rand(1, 3, 32, 32)

    def peak(count):
        with LiveBytes() as live:
            explain(name, model, net[1], x, [list(range(count))], internal_batch_size=1)
        return live.peak

    # Of Grad-CAM++ three means of the layer's size for each target.
    means = 3 if "++" in name else 0
    assert peak(9) - peak(2) < 7 * (means + 0.1) * layer


@every_method
def test_nothing_of_the_callers_changes(name):
    net, x = ConvNet(inplace=True).double(), images()
    before = state_of(net, x)

    explain(name, net, net.features, x, TARGETS)

    assert_same_state(before, state_of(net, x))


class OutOfMemory(nn.Module):
    """Its backward passes run out of memory where they are told to."""

    def __init__(self, fails_at):
        super().__init__()
        self.net, self.fails_at, self.seen = ConvNet().double(), fails_at, 0
        self.eval()

    def forward(self, x):
        out = self.net(x)
        if out.requires_grad:
            out.register_hook(self.fail)
        return out

    def fail(self, _):
        self.seen += 1
        if self.seen in self.fails_at:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


@every_method
@pytest.mark.parametrize("fails_at", [(1,), (2,), (3,), (1, 3), (3, 5), (2, 6)])
def test_rows_count_once_where_memory_runs_out_between_two_targets(name, fails_at):
    model, x = OutOfMemory(fails_at), images(5)
    targets = [[n % 5, (n + 2) % 5, 1] for n in range(5)]
    expected = explain(name, model.net, model.net.features, x, targets)

    with pytest.warns(RuntimeWarning, match="Memory ran out"):
        out = explain(name, model, model.net.features, x, targets)

    torch.testing.assert_close(out, expected, **EXACT)


@pytest.mark.parametrize(
    ("target", "output", "error", "match"),
    [
        (
            TARGETS,
            lambda out: out[:, :, None].repeat(1, 1, 2),
            ValueError,
            r"output \(N, classes\)",
        ),
        (torch.zeros(2, 0).long(), None, ValueError, "at least one column, got"),
        ([[], []], None, ValueError, "as many classes for each example"),
        ([[1, 2]] * 3, None, ValueError, r"one row per example.*\(3, 2\) for 2"),
        ([[1, 5], [0, 1]], None, ValueError, "from 0 to 4, got 5"),
        ([[1, -1], [0, 1]], None, ValueError, "from 0 to 4, got -1"),
        ([[1.5, 2], [0, 1]], None, TypeError, "target must hold integers"),
        (torch.eye(5)[:2].long(), None, ValueError, "one-hot rows of 5"),
    ],
)
@every_method
def test_what_is_refused(name, target, output, error, match):
    net, x = ConvNet().double(), images()
    model = net if output is None else lambda z: output(net(z))

    with pytest.raises(error, match=match):
        explain(name, model, net.features, x, target)
    assert not any(module._forward_hooks for module in net.modules())


@every_method
def test_a_layer_that_leads_to_no_target_is_refused(name):
    net, x = ConvNet().double(), images()

    def model(z):
        net(z)
        return z.flatten(1)

    with pytest.raises(ValueError, match="layer must lead to the score by gradients"):
        explain(name, model, net.features, x, TARGETS)


@every_method
@pytest.mark.parametrize("size", [1, 2, None])
def test_a_gradient_of_one_target_that_is_nan_names_the_example(name, size):
    net, x = ConvNet().double(), images(3)

    def model(z, number):
        out = net(z)
        if out.requires_grad:
            last = number[:, None] * torch.tensor([[0, 0, 0, 0, 1]])
            out.register_hook(
                lambda grad: torch.where((grad != 0) & (last == 2), torch.nan, grad)
            )
        return out

    def run(target):
        return explain(
            name,
            model,
            net.features,
            x,
            target,
            additional_forward_args=torch.arange(3),
            internal_batch_size=size,
        )

    match = r"in the pass of example 2 (at strength|with gradients|with the noise of)"
    with pytest.raises(RuntimeError, match=match):
        run([[1, 4, 0]])
    assert torch.isfinite(run([[1, 3, 0]])).all()


@pytest.mark.parametrize("size", [1, 2, 4, None])
def test_the_first_pass_that_is_not_finite_is_named(size):
    net, seen = ConvNet().double(), []

    def model(z):
        rows = torch.arange(len(seen), len(seen) + len(z))
        seen.extend(z)
        # After two rows without gradients: sample 1 of both, then sample 2 of one.
        broken = (rows == 5) | (rows == 4) | (rows == 7)
        return net(z) + torch.where(broken, torch.nan, 0.0)[:, None]

    with pytest.raises(RuntimeError, match="example 0 with the noise of sample 1"):
        explain(
            "smooth grad-cam++",
            model,
            net.features,
            images(),
            TARGETS,
            internal_batch_size=size,
        )


@every_method
@pytest.mark.parametrize("amount", [0.0, 0.3])
def test_through_a_noise_tunnel(name, amount):
    net = ConvNet().double()

    class Method(LayerGradientMethod):
        def attribute(self, inputs, target=None):
            return explain(name, self.forward_func, self.layer, inputs, target)

        attribute.__wrapped__ = attribute

    def smooth(x, target):
        torch.manual_seed(3)
        tunnel = NoiseTunnel(Method(net, net.features))
        return tunnel.attribute(x, nt_samples=3, stdevs=amount, target=target)

    for x, target in [(images(1), [[1, 4]]), (images(2), TARGETS)]:
        columns = [list(column) for column in zip(*target, strict=True)]
        expected = torch.cat([smooth(x, column) for column in columns], 1)
        torch.testing.assert_close(smooth(x, target), expected, **EXACT)
        torch.testing.assert_close(smooth(x, torch.tensor(target)), expected, **EXACT)


def test_targets_share_the_noise_of_torch_itself():
    net, x = ConvNet().double(), images()
    method = LayerSmoothGradCAMPlusPlus(net, net.features)

    def run(target):
        torch.manual_seed(11)
        return method.attribute(x, target, n_samples=5)

    torch.testing.assert_close(run([[1, 4]]), torch.cat([run(1), run(4)], 1), **EXACT)


class Waits(TorchDispatchMode):
    """Counts what the host would wait for on a device, or copy to it."""

    KINDS = (
        torch.ops.aten.lift_fresh.default,
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.equal.default,
    )

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in self.KINDS
        return func(*args, **(kwargs or {}))


@every_method
@pytest.mark.parametrize("target", [1, [1, 4], TARGETS], ids=str)
def test_nothing_waits_between_two_passes(name, target):
    net, counts = ConvNet().double(), []

    def model(z):
        counts.append(waits.count)
        return net(z)

    with Waits() as waits:
        explain(name, model, net.features, images(), target, internal_batch_size=2)

    # The first pass checks the target, the last one shows an input alone; whether all
    # was finite is asked in the end.
    views = VIEWS.get(name, 1)
    assert len(counts) == 1 + views + (1 if views == 1 else 2)
    assert counts[1] == counts[-1]
    assert waits.count > counts[-1]
    if target == 1:
        assert counts[0] == counts[-1]


@every_method
@pytest.mark.parametrize("target", [1, [1, 4], torch.tensor([1, 4]), TARGETS], ids=str)
def test_the_default_device_does_not_matter(name, target):
    net, x = ConvNet().double(), images()
    expected = explain(name, net, net.features, x, target)

    with torch.device("meta"):
        out = explain(name, net, net.features, x, target)

    assert torch.equal(out, expected)


def test_the_default_device_does_not_change_the_noise():
    net, x = ConvNet().double(), images()
    method = LayerSmoothGradCAMPlusPlus(net, net.features)

    def run():
        torch.manual_seed(5)
        return method.attribute(x, 1, n_samples=3)

    expected = run()
    with torch.device("meta"):
        out = run()

    assert torch.equal(out, expected)


def test_what_says_so():
    assert LayerGradientMethod.takes_several_targets
