"""The package on a pretend accelerator: no operand on the wrong device, no double
precision, the results of the CPU, and few waits, none of them between masked passes."""

from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import pytest
import torch
from promises.pretend_device import DEVICE, MISSING, TO_DEVICE, TO_HOST, PretendDevice
from reference.networks import ConvNet, Detector, Segmenter, images
from reference.transformers import small_maxvit, small_swin, small_vit
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

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
    metrics,
    targets,
)
from captum_iscam import reshape_transforms as transforms
from captum_iscam.attr import fuse
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.methods import METHODS, Options

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    # So small a network, untrained, has classes that nothing supports.
    pytest.mark.filterwarnings(
        "ignore:The map is zero",
        "ignore:The score of example",
        "ignore:The noise",
        "ignore:Channels that support",
    ),
]


@pytest.fixture
def device():
    with PretendDevice("captum_iscam", float64=False) as device:
        yield device


@pytest.fixture
def net():
    return ConvNet()


@pytest.fixture
def x():
    return images(2, dtype=torch.float32)


def seeded(home="cpu"):
    return torch.Generator(home).manual_seed(3)


def moved(value, place=DEVICE):
    """Returns a tree of values with its tensors, and copies of its networks, there."""

    def move(leaf):
        if isinstance(leaf, nn.Module):
            return deepcopy(leaf).to(place)
        return leaf.to(place) if isinstance(leaf, Tensor) else leaf

    return tree_map(move, value)


def check_equal(found, expected, place=DEVICE):
    tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
    assert {str(x.device) for x in tensors} == {place}
    torch.testing.assert_close(moved(found, "cpu"), expected, rtol=1e-5, atol=1e-6)


def compare(device, call, *values):
    """Checks that a call gives on the device what it gives on the CPU."""
    expected = call(*values)
    found = call(*moved(values))
    assert device.faults == []
    check_equal(found, expected)


SCORE_METHODS = {
    "score-cam": (LayerScoreCAM, {}),
    "is-cam": (LayerIntegratedScoreCAM, {}),
    "is-cam n_steps": (LayerIntegratedScoreCAM, {"n_steps": 3}),
    "ss-cam": (LayerSmoothedScoreCAM, {"n_samples": 4}),
    "poly-cam both": (LayerPolyCAM, {"variant": "both"}),
    "ablation-cam": (LayerAblationCAM, {"fill": "below_minimum"}),
    "recipro-cam": (LayerReciproCAM, {}),
    "rise": (RISE, {"n_masks": 20, "grid": 3}),
}
LAYER_MASKS = ("ablation-cam", "recipro-cam")
GRADIENT_METHODS = {
    "integrated grad-cam": (LayerIntegratedGradCAM, {"n_steps": 4}),
    "grad-cam++": (LayerGradCAMPlusPlus, {}),
    "smooth grad-cam++": (LayerSmoothGradCAMPlusPlus, {"n_samples": 4}),
    "layer-cam": (LayerCAM, {}),
    "hires-cam": (LayerHiResCAM, {}),
    "xgrad-cam": (LayerXGradCAM, {}),
    "grad-cam": (GradCAM, {}),
}
OF_A_TARGET = {
    **SCORE_METHODS,
    **GRADIENT_METHODS,
    "finer-cam": (METHODS["finer-cam"].attribution, {}),
}
NOISY = (LayerSmoothedScoreCAM, LayerSmoothGradCAMPlusPlus, RISE)
DRAWS = {"ss-cam": 2}  # a field for each pair of samples


def explain(name, net, x, target=1, home="cpu", **options):
    method, own = OF_A_TARGET[name]
    if method in NOISY:
        own = {**own, "generator": seeded(home)}
    explained = method(net) if method is RISE else method(net, net.features)
    return explained.attribute(x, target=target, **own, **options)


def with_delta(name, net, x):
    maps, delta = explain(name, net, x, return_convergence_delta=True)
    # A difference of numbers that are almost equal has fewer digits.
    return maps, delta / 10


def fused(net, x, how):
    layers = [net.features, net.mix]
    return fuse(LayerScoreCAM(net, layers).attribute(x, 1), how, size=x.shape[2:])


def control(method, net, x, **options):
    return method(net, net.features, **options).attribute(x, 1)


ATTRIBUTION = {
    **{name: partial(explain, name) for name in OF_A_TARGET},
    "is-cam delta": partial(with_delta, "is-cam"),
    "ss-cam delta": partial(with_delta, "ss-cam"),
    "ss-cam mask": partial(explain, "ss-cam", noise="mask", stdevs=0.2),
    "fuse mean": partial(fused, how="mean"),
    "fuse max": partial(fused, how="max"),
    "fuse product": partial(fused, how="product"),
    "occlusion": lambda net, x: METHODS["occlusion"].attribute(
        net, net.features, x, [1, 3], Options()
    ),
    "random map": lambda net, x: control(metrics.RandomMap, net, x, generator=seeded()),
    "center map": partial(control, metrics.CenterMap),
    "channel mean": partial(control, metrics.ChannelMean),
}


@pytest.mark.parametrize("name", ATTRIBUTION)
def test_attribution_is_that_of_the_cpu(name, device, net, x):
    compare(device, ATTRIBUTION[name], net, x)


@pytest.mark.parametrize("name", ["ss-cam", "smooth grad-cam++", "rise"])
def test_generators_of_the_device(name, device, net, x):
    compare(device, lambda f, z: explain(name, f, z, home=z.device), net, x)


@pytest.mark.parametrize("place", ["cpu", DEVICE])
@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "rise"])
def test_targets_may_be_on_any_device(name, place, device, net, x):
    target = torch.tensor([3, 0])
    expected = explain(name, net, x, target)

    found = explain(name, *moved((net, x)), target.to(place))

    assert device.faults == []
    check_equal(found, expected)


@pytest.mark.parametrize("name", OF_A_TARGET)
def test_several_targets(name, device, net, x):
    several = torch.tensor([[0, 1, 4], [2, 3, 1]])
    one_by_one = [explain(name, net, x, column) for column in several.unbind(1)]

    found = explain(name, *moved((net, x, several)))

    assert device.faults == []
    check_equal(found, torch.cat(one_by_one, 1))


class Wide(nn.Module):
    """A layer of as many channels as asked for, all of which vary."""

    def __init__(self, channels):
        super().__init__()
        self.features = nn.Conv2d(3, channels, 3, stride=2)
        self.head = nn.Linear(channels, 5)
        self.eval()

    def forward(self, x):
        return self.head(self.features(x).relu().mean((2, 3)))


def masked_passes(device, x):
    """Returns the numbers of the passes that showed more than the inputs and zeros.

    One input is shown at a quarter of its strength too.
    """
    plain = torch.cat([x, 0.25 * x[:1], torch.zeros_like(x[:1])])
    return [
        turn
        for turn, shown in enumerate(device.shown, 1)
        if not all((row == plain).flatten(1).all(1).any() for row in shown)
    ]


def between(device, first, last):
    return [str(wait) for wait in device.waits if first <= wait.turn < last]


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_no_waits_between_masked_passes(name, device, x):
    net, inputs = moved((Wide(16), x))

    with device.watch(net):
        explain(name, net, inputs, [1, 3], home=DEVICE, internal_batch_size=5)

    passes = masked_passes(device, x)
    if name in LAYER_MASKS:  # after the inputs and the check
        passes = range(4, len(device.shown) + 1)
    assert len(passes) > 4
    assert between(device, passes[0], passes[-1]) == []


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_waits_of_a_map_do_not_grow_with_the_layer(name, device, x):
    counts = []
    for channels in (64, 256):
        net, inputs = moved((Wide(channels), x[:1]))
        device.waits.clear()
        with device.watch(net):
            explain(name, net, inputs, internal_batch_size=32)
        counts.append(sum(not wait.inside for wait in device.waits))

    assert counts[0] == counts[1]
    assert 0 < counts[0] <= 28 + DRAWS.get(name, 0)


def test_noise_of_the_cpu_is_one_copy_per_draw(device, x):
    net, inputs = moved((Wide(16), x))

    with device.watch(net):
        explain("ss-cam", net, inputs, internal_batch_size=5)

    copies = [wait for wait in device.waits if "_masking" in wait.line]
    assert 0 < len(copies) <= DRAWS["ss-cam"]
    first, *_, last = masked_passes(device, x)
    assert set(between(device, first, last)) <= set(map(str, copies))


@pytest.mark.parametrize("target", [1, [1, 3]], ids=["one target", "one each"])
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_gradient_methods_do_not_wait_between_passes(name, target, device, net, x):
    net, inputs = moved((net, x))
    own = {} if name == "grad-cam" else {"internal_batch_size": 2}

    with device.watch(net):
        explain(name, net, inputs, target, home=DEVICE, **own)

    last = len(device.shown)
    assert last > 1
    assert between(device, 1, last) == []


@contextmanager
def default_device(place):
    torch.set_default_device(place)
    try:
        yield
    finally:
        torch.set_default_device(None)


# The default device, and where model and inputs are.
DEFAULTS = pytest.mark.parametrize(
    ("default", "place"),
    [(DEVICE, "cpu"), ("cpu", DEVICE), (DEVICE, DEVICE)],
    ids=["model on the cpu", "model on the device", "both on the device"],
)


def compare_default(device, default, place, call, *values):
    expected = call(*values)
    with default_device(default):
        found = call(*moved(values, place))
    assert device.faults == []
    check_equal(found, expected, place)


@DEFAULTS
@pytest.mark.parametrize("name", ATTRIBUTION)
def test_the_default_device_misplaces_no_attribution(
    name, default, place, device, net, x
):
    compare_default(device, default, place, ATTRIBUTION[name], net, x)


def mean_map(inputs, target=None):
    return inputs.mean(1, keepdim=True)


def from_maps(metric, **own):
    return lambda f, x, m, **options: metric(f, x, m, 2, **own, **options)


def with_seed(metric, **own):
    return lambda f, x, m, **options: metric(
        f, x, m, 2, generator=seeded(), **own, **options
    )


def with_columns(metric):
    """Columns of pixels are the objects; the first looks the same when removed."""

    def value(f, x, m, **options):
        count = x.shape[-1]
        masks = torch.eye(count, device=x.device).view(1, count, 1, count)
        masks = masks.expand(len(x), -1, x.shape[2], -1).contiguous()
        without = x.unsqueeze(1) * (1 - masks.unsqueeze(2))
        without = torch.cat([x.unsqueeze(1), without[:, 1:]], 1)
        own = {"interventions": without, "object_masks": masks}
        return metric(f, x, m, 2, **own, **options)

    return value


SCORED = {
    "average_drop": from_maps(metrics.average_drop),
    "average_drop keep": from_maps(metrics.average_drop, keep=0.5),
    "average_increase": from_maps(metrics.average_increase),
    "average_gain": from_maps(metrics.average_gain),
    "win_rate": lambda f, x, m, **options: metrics.win_rate(
        f, x, m, 2, rival=m.flip(-1), **options
    ),
    "insertion": from_maps(metrics.insertion, steps=6),
    "deletion": from_maps(metrics.deletion, steps=6, substrate="blur"),
    "deletion curves": from_maps(metrics.deletion, steps=6, return_curves=True),
    "road": with_seed(metrics.road, percentiles=(30, 60)),
    "road_most_relevant_first": with_seed(
        metrics.road_most_relevant_first, percentiles=(30, 60)
    ),
    "road_least_relevant_first": with_seed(
        metrics.road_least_relevant_first, percentiles=(30, 60)
    ),
    "infidelity": with_seed(metrics.infidelity, n_perturb_samples=4),
    "adcc": from_maps(metrics.adcc, explanation_func=mean_map),
    "arcc": with_seed(metrics.arcc, explanation_func=mean_map, percentiles=(30, 60)),
    "single_deletion": from_maps(metrics.single_deletion),
    "attainable_insertion": from_maps(metrics.attainable_insertion, patches=4),
    "attainable_deletion": from_maps(
        metrics.attainable_deletion, patches=4, substrate="blur"
    ),
    "object_order": with_columns(metrics.object_order),
    "irrelevant_object_share": with_columns(metrics.irrelevant_object_share),
}
EXPLAINING = {
    "coherency": lambda f, x, m: metrics.coherency(mean_map, x, m, 2),
    "sensitivity_max": lambda f, x, m: metrics.sensitivity_max(
        mean_map, x, 2, generator=seeded(), n_perturb_samples=4
    ),
    "target_sensitivity": lambda f, x, m: metrics.target_sensitivity(
        lambda z, target: z[:, target : target + 1], x, 0, other_target=2
    ),
    "parameter_randomization": lambda f, x, m: metrics.parameter_randomization(
        lambda z, target: f.features(z).detach()[:, target : target + 1],
        f,
        x,
        2,
        generator=seeded(),
    )[1:],
}


def inside_of(m):
    return m > m.mean((2, 3), keepdim=True)


OF_MAPS = {
    "complexity": lambda f, x, m: metrics.complexity(m, size=(20, 20)),
    "sparseness": lambda f, x, m: metrics.sparseness(m),
    "energy_pointing_game": lambda f, x, m: metrics.energy_pointing_game(
        m, inside_of(m.flip(-1))
    ),
    "pointing_game": lambda f, x, m: metrics.pointing_game(
        m, inside_of(m.flip(-1)), tolerance=1.5
    ),
    "mask_iou": lambda f, x, m: metrics.mask_iou(m, inside_of(m.flip(-1))),
    "top_k_intersection": lambda f, x, m: metrics.top_k_intersection(
        m, inside_of(m.flip(-1))
    ),
}
ALL_METRICS = {**SCORED, **EXPLAINING, **OF_MAPS}


@pytest.fixture
def maps(x):
    return torch.rand(len(x), 1, *x.shape[2:])


@pytest.mark.parametrize("name", ALL_METRICS)
def test_metrics_are_those_of_the_cpu(name, device, net, x, maps):
    compare(device, ALL_METRICS[name], net, x, maps)


@DEFAULTS
@pytest.mark.parametrize("name", ALL_METRICS)
def test_the_default_device_misplaces_no_metric(
    name, default, place, device, net, x, maps
):
    compare_default(device, default, place, ALL_METRICS[name], net, x, maps)


def test_every_metric_is_among_them():
    of_the_package = {
        name
        for name in metrics.__all__
        if hasattr(getattr(metrics, name), "higher_is_better")
    }

    assert of_the_package == {name.split()[0] for name in ALL_METRICS}


@pytest.mark.parametrize("name", SCORED)
def test_waits_of_a_metric_do_not_grow_with_its_passes(name, device, net, x, maps):
    net, *values = moved((net, x, maps))
    SCORED[name](net, *values)  # asks whether its scores are steady, once
    counts, passes = [], []
    for size in (2 if "road" in name else 1, 100):
        device.waits.clear()
        device.shown.clear()
        with device.watch(net):
            SCORED[name](net, *values, internal_batch_size=size)
        counts.append(len(device.waits))
        passes.append(len(device.shown))

    assert passes[0] > passes[1]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", OF_MAPS)
def test_waits_of_a_metric_of_maps_do_not_grow_with_their_number(name, device, maps):
    counts = []
    for times in (1, 3):
        given = moved(maps.repeat(times, 1, 1, 1))
        device.waits.clear()
        OF_MAPS[name](None, None, given)
        counts.append(len(device.waits))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_boxes_and_quantus(place, device, net, x):
    explain_func = metrics.quantus_explain_func(lambda f: LayerScoreCAM(f, f.features))
    boxes = [torch.tensor([[1, 2, 5, 6]]), [[0, 0, 3, 3], [2, 2, 4, 7]]]
    expected = metrics.boxes_to_masks(boxes, (9, 8))
    numbers = x.numpy(), torch.tensor([1, 0]).numpy()
    maps = explain_func(net, *numbers)

    with default_device(place):
        masks = metrics.boxes_to_masks(moved(boxes), (9, 8))
        found = explain_func(moved(net), *numbers)

    assert device.faults == []
    assert torch.equal(masks.cpu(), expected)
    assert found == pytest.approx(maps, abs=1e-6)


def region_of(z, rows=()):
    region = torch.zeros(*rows, 6, 7, dtype=torch.bool, device=z.device)
    region[..., 1:3, 2:6] = True
    return region


# Each makes a `forward_func` of a network, and its additional arguments.
TARGETS = {
    "multi_label": lambda f, x: (targets.multi_label(f, [0, 3]), None),
    "regression": lambda f, x: (targets.regression(f, 3), None),
    "regression toward": lambda f, x: (targets.regression(f, 3, toward=0.25), None),
    "similarity": lambda f, x: (
        targets.similarity(f, torch.tensor([1.0, -2, 0.5, 0, 3], device=x.device)),
        None,
    ),
    "contrast": lambda f, x: (targets.contrast(f, [1, 4]), None),
    "contrast of examples": lambda f, x: (
        targets.contrast(f),
        targets.similar_classes(f(x), 2),
    ),
    "segmentation": lambda f, x: (targets.segmentation(f, 3, region_of(x)), None),
    "segmentation of examples": lambda f, x: (
        targets.segmentation(f, 3),
        region_of(x, rows=[2]),
    ),
    "detection": lambda f, x: (targets.detection(f, x[:1], (1, 1, 7, 6)), None),
    "model score": lambda f, x: (
        targets.ModelScore(f, lambda out, *_: out[:, 1] - out[:, 0]),
        None,
    ),
}
EXPLAINED = {"segmentation": Segmenter, "detection": Detector}


def score_of(name, method, net, x):
    score, additional = TARGETS[name](net, x)
    target = 2 if name.startswith("contrast") else None
    return method(score, net.features, score="identity").attribute(
        x, target, additional_forward_args=additional
    )


@pytest.mark.parametrize("method", [LayerScoreCAM, LayerGradCAMPlusPlus])
@pytest.mark.parametrize("name", TARGETS)
def test_target_wrappers(name, method, device, x):
    net = EXPLAINED.get(name.split()[0], ConvNet)()

    compare(device, partial(score_of, name, method), net, x)


@DEFAULTS
@pytest.mark.parametrize("name", TARGETS)
def test_the_default_device_misplaces_no_target(name, default, place, device, x):
    net = EXPLAINED.get(name.split()[0], ConvNet)()
    call = partial(score_of, name, LayerScoreCAM)

    compare_default(device, default, place, call, net, x)


# Detections differ in number from image to image, and a region per example is checked
# in each pass, as it comes with the pass.
WAITING = {"detection", "segmentation of examples"}


@pytest.mark.parametrize("name", sorted(set(TARGETS) - WAITING))
def test_target_wrappers_do_not_wait_in_a_pass(name, device, x):
    net, inputs = moved((EXPLAINED.get(name.split()[0], ConvNet)(), x))
    score, additional = TARGETS[name](net, inputs)
    extra = () if additional is None else (additional,)
    score(inputs, *extra)
    device.waits.clear()

    score(inputs, *extra)

    assert list(map(str, device.waits)) == []


def inner_layer(net, kind):
    return net.blocks[2].layers[0].layers.get_submodule(kind).attn_layer[0]


# Network, side of its input, layer and transform.
RESHAPED = {
    "vit": (small_vit, 32, lambda f: f.encoder.layers[-1].ln_1, transforms.vit),
    "tokens": (
        small_vit,
        32,
        lambda f: f.encoder.layers[-1].ln_1,
        transforms.tokens((4, 4), extra=1),
    ),
    "swin": (small_swin, 32, lambda f: f.features[-1], transforms.swin),
    "maxvit_windows": (
        small_maxvit,
        64,
        lambda f: inner_layer(f, "window_attention"),
        transforms.maxvit_windows,
    ),
    "maxvit_grid": (
        small_maxvit,
        64,
        lambda f: inner_layer(f, "grid_attention"),
        transforms.maxvit_grid,
    ),
}


@pytest.mark.parametrize("method", [LayerScoreCAM, LayerGradCAMPlusPlus])
@pytest.mark.parametrize("name", RESHAPED)
def test_reshape_transforms(name, method, device):
    make, side, layer, transform = RESHAPED[name]

    def call(net, inputs):
        built = method(net, layer(net), reshape_transform=transform, score="identity")
        return built.attribute(inputs, 1, relu_attributions=False)

    compare(device, call, make(), torch.rand(1, 3, side, side))


def test_memory_that_runs_out_halves_the_batch(x):
    net, x = Wide(64), x[:1]
    expected = LayerScoreCAM(net, net.features).attribute(x, 1)
    # The layer's output alone takes half a megabyte for all 64 channels at once.
    with PretendDevice("captum_iscam", capacity=300_000) as device:
        f, inputs = moved((net, x))
        explained = LayerScoreCAM(f, f.features)
        with pytest.warns(RuntimeWarning, match="Memory ran out"):
            found = explained.attribute(inputs, 1)
        check_equal(found, expected)
    assert device.faults == []


# What the device itself promises, so that nothing above passes for want of a check.


@pytest.mark.parametrize(
    "mistake",
    [
        lambda a, b: a + b,
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: a @ b,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.stack([a, b[:3]]),
        lambda a, b: a.copy_(b).mul_(b),
        lambda a, b: a.index_select(0, b.long()),
        lambda a, b: a.gather(0, b.long()),
        lambda a, b: b[a.long()],
        lambda a, b: a.index_put_((a.long(),), b),
        lambda a, b: nn.functional.linear(a, b),
        lambda a, b: torch.stack([a.sum(), b.sum()]),
        lambda a, b: torch.rand(2, device=DEVICE, generator=seeded()),
        lambda a, b: torch.rand(2, generator=seeded(DEVICE)),
        lambda a, b: a.uniform_(generator=seeded()),
        lambda a, b: torch.randperm(3, device=DEVICE, generator=seeded()),
    ],
)
def test_what_is_in_two_places_is_refused(mistake, device):
    a, b = torch.zeros(3, device=DEVICE), torch.zeros(3)

    with pytest.raises(RuntimeError, match=r"on two devices|got a generator"):
        mistake(a, b)

    assert len(device.faults) == 1


def test_numbers_and_indices_may_be_on_the_cpu(device):
    a, one = torch.zeros(3, device=DEVICE), torch.tensor(1.0)

    found = [a + one, torch.maximum(a, one), torch.where(a > 0, a, one), a.fill_(one)]
    rows = a[torch.tensor([0, 2])]
    drawn = torch.rand(2, device=DEVICE, generator=seeded(DEVICE))

    assert [x.tolist() for x in found] == [[1, 1, 1]] * 4
    assert rows.tolist() == [1, 1]
    assert torch.equal(drawn.cpu(), torch.rand(2, generator=seeded()))
    assert device.faults == []


def test_mistakes_in_a_backward_pass_are_written_down(device):
    leaf = torch.ones(3, device=DEVICE, requires_grad=True)
    doubled = leaf * 2
    doubled.register_hook(lambda gradient: gradient + torch.ones(3))

    doubled.sum().backward()

    assert leaf.grad.tolist() == [4, 4, 4]
    assert ["two devices" in fault for fault in device.faults] == [True]


@pytest.mark.parametrize(
    "asked",
    [
        lambda a: a.double(),
        lambda a: a.to(torch.complex128),
        lambda a: torch.zeros(2, dtype=torch.float64, device=DEVICE),
        lambda a: torch.zeros(2, dtype=torch.float64).to(DEVICE),
        lambda a: a.sum(dtype=torch.float64),
    ],
)
def test_double_precision_is_refused_on_request(asked, device):
    a = torch.ones(2, device=DEVICE)
    assert (a * torch.tensor(2.0, dtype=torch.float64)).tolist() == [2, 2]

    with pytest.raises(TypeError, match="no float64"):
        asked(a)

    assert len(device.faults) == 1
    with PretendDevice("captum_iscam") as other:
        asked(a)
    assert other.faults == []


COUNTED = {
    "item": (lambda a: a.sum().item(), TO_HOST),
    "bool": (lambda a: bool(a.any()), TO_HOST),
    "tolist": (lambda a: a.tolist(), TO_HOST),
    "cpu": (lambda a: a.cpu(), TO_HOST),
    "copy to the host": (lambda a: torch.zeros(3).copy_(a), TO_HOST),
    "nonzero": (lambda a: a.nonzero(), TO_HOST),
    "unique": (lambda a: a.unique(), TO_HOST),
    "mask": (lambda a: a[a > 1], TO_HOST),
    "masked_select": (lambda a: a.masked_select(a > 1), TO_HOST),
    "write by mask": (lambda a: a.__setitem__(a > 0, a[1:] + 1), TO_HOST),
    "equal": (lambda a: torch.equal(a, a), TO_HOST),
    "number as index": (lambda a: a[a.argmax()], TO_HOST),
    "to": (lambda a: torch.zeros(3).to(DEVICE), TO_DEVICE),
    "tensor": (lambda a: torch.tensor([1.0, 2.0], device=DEVICE), TO_DEVICE),
    "copy": (lambda a: a.copy_(torch.zeros(3)), TO_DEVICE),
    "index": (lambda a: a[torch.tensor([0, 2])], TO_DEVICE),
    "list as index": (lambda a: a[[0, 2]], TO_DEVICE),
    "write by index": (lambda a: a.__setitem__([0, 2], 1.0), TO_DEVICE),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_the_host_waits_for_is_counted(name, device):
    call, kind = COUNTED[name]
    a = torch.arange(3.0, device=DEVICE)
    assert device.waits == []

    call(a)

    assert [wait.kind for wait in device.waits] == [kind]


@pytest.mark.parametrize(
    "call",
    [
        lambda a: torch.arange(4, device=DEVICE),
        lambda a: a + 1,
        lambda a: a.to(DEVICE),
        lambda a: torch.tensor(3.0, device=DEVICE),
        lambda a: a[1:],
        lambda a: a[a.long()],
        lambda a: a.masked_fill(a > 1, 0),
        lambda a: a.__setitem__(a > 1, 0),
        lambda a: torch.zeros(3) + torch.zeros(3).sum().item(),
    ],
)
def test_what_nothing_waits_for_is_not_counted(call, device):
    a = torch.arange(3.0, device=DEVICE)

    call(a)

    assert device.waits == []


def test_waits_have_a_line_and_a_place_among_the_passes(device):
    class Waiting(nn.Module):
        def forward(self, x):
            return x / x.sum().item()

    net, a = Waiting(), torch.ones(1, 1, 2, 2, device=DEVICE)

    with device.watch(net):
        metrics.complexity(a).tolist()
        net(a)
        metrics.energy_pointing_game(a, torch.ones(1, 2, 2, device=DEVICE) > 0)
        net(a)

    told = {(wait.turn, wait.inside, wait.line.split(":")[0]) for wait in device.waits}
    assert {(0, False, "elsewhere"), (1, True, "elsewhere")} < told
    assert any(turn == 1 and "metrics/" in line for turn, _, line in told)
    assert len(device.shown) == 2
    assert device.shown[0].tolist() == [[[[1, 1], [1, 1]]]]


def test_memory_is_limited_and_given_back():
    with PretendDevice("captum_iscam", capacity=1000) as device:
        first = torch.zeros(200, device=DEVICE)
        assert first[5:].view(-1, 5).shape == (39, 5)  # takes no memory
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            torch.zeros(100, device=DEVICE)
        del first
        assert torch.zeros(200, device=DEVICE).sum().item() == 0
    assert device.faults == []


def test_networks_go_there_and_back(device, net):
    there = moved(net)
    kinds = {str(x.device) for x in (*there.parameters(), *there.buffers())}
    back = moved(there, "cpu").state_dict()

    assert kinds == {DEVICE}
    assert all(isinstance(x, nn.Parameter) for x in there.parameters())
    torch.testing.assert_close(back, net.state_dict())


def test_nothing_is_left_of_it():
    before = torch.Generator
    with PretendDevice("captum_iscam"):
        assert torch.Generator is not before
        assert isinstance(seeded(), before)
        assert isinstance(before(), torch.Generator)
        a = torch.zeros(2, device=DEVICE)

    assert torch.Generator is before
    assert not torch.accelerator.is_available()
    assert torch._C._is_multithreading_enabled()
    with pytest.raises(RuntimeError, match="with block"):
        a + 1
