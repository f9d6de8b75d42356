"""Ablation-CAM and Recipro-CAM: equations, passes, models, and other packages."""

import warnings

import pytest
import torch
from captum.attr import LayerFeatureAblation
from reference.layer_masks import ablation_cam, recipro_cam
from reference.networks import DEAD, ConvNet, images
from reference.transformers import MODELS, SIZES
from torch import nn

from captum_iscam import LayerAblationCAM, LayerReciproCAM
from captum_iscam.reshape_transforms import vit

TARGETS = [1, 4]
EXACT = {"rtol": 1e-9, "atol": 1e-12}
METHODS = {"Ablation-CAM": LayerAblationCAM, "Recipro-CAM": LayerReciproCAM}
every_method = pytest.mark.parametrize("name", METHODS)
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero", "ignore:The score of example.* is negative"
)


def rest_of(net):
    def rest(activations):
        hidden = torch.relu(net.mix(activations)).flatten(2)
        return net.head(hidden.amax(2) + hidden.mean(2))

    return rest


def probability_of(rest):
    return lambda activations: rest(activations).softmax(1)


@torch.no_grad()
def expected_maps(slow, scored, layer, x, targets=TARGETS, **options):
    maps = [
        slow(scored, layer(row[None])[0], target, **options)
        for row, target in zip(x, targets, strict=True)
    ]
    return torch.stack(maps).unsqueeze(1)


@pytest.mark.parametrize("score", ["identity", "softmax"])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_ablation_cam_is_its_equation(spatial, relu, score):
    net, x = ConvNet(spatial=spatial).double(), images(spatial=spatial)
    scored = rest_of(net) if score == "identity" else probability_of(rest_of(net))

    ours = LayerAblationCAM(net, net.features, score=score).attribute(
        x, TARGETS, relu_attributions=relu
    )

    expected = expected_maps(ablation_cam, scored, net.features, x, relu=relu)
    torch.testing.assert_close(ours, expected, **EXACT)


@pytest.mark.parametrize("fill", ["zero", "below_minimum"])
def test_layers_with_negative_values_are_filled_as_said(fill):
    net, x = ConvNet().double(), images()
    net.features = net.features[:2]

    ours = LayerAblationCAM(net, net.features).attribute(
        x, TARGETS, relu_attributions=False, fill=fill
    )

    expected = expected_maps(
        ablation_cam, rest_of(net), net.features, x, fill=fill, relu=False
    )
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("window", ["gaussian", "single", "spread"])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_recipro_cam_is_its_equation(spatial, window):
    net, x = ConvNet(spatial=spatial).double(), images(spatial=spatial)

    ours = LayerReciproCAM(net, net.features).attribute(x, TARGETS, window=window)

    scored = probability_of(rest_of(net))
    expected = expected_maps(recipro_cam, scored, net.features, x, window=window)
    torch.testing.assert_close(ours, expected, **EXACT)
    assert ours.amin() == 0
    assert ours.amax() == 1


@pytest.mark.parametrize("relu", [True, False])
def test_recipro_cam_gives_the_scores_themselves(relu):
    net, x = ConvNet().double(), images()

    ours = LayerReciproCAM(net, net.features, score="identity").attribute(
        x, TARGETS, normalize=False, relu_attributions=relu
    )

    expected = expected_maps(
        recipro_cam, rest_of(net), net.features, x, normalize=False, relu=relu
    )
    torch.testing.assert_close(ours, expected, **EXACT)


def test_the_drops_are_captums_feature_ablation_of_channels():
    net, x = ConvNet().double(), images()
    activations = net.features(x).detach()

    ours = LayerAblationCAM(net, net.features).attribute(
        x, TARGETS, relu_attributions=False
    )

    channels = torch.arange(activations.shape[1]).view(1, -1, 1, 1)
    drops = LayerFeatureAblation(net, net.features).attribute(
        x,
        target=torch.tensor(TARGETS),
        layer_mask=channels.expand_as(activations[:1]),
    )
    scores = net(x).detach()[[0, 1], TARGETS].view(-1, 1, 1, 1)
    expected = (drops / scores * activations).sum(1, keepdim=True)
    torch.testing.assert_close(ours, expected, **EXACT)


def of_grad_cam(net, layer, x, target, **options):
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Holder(nn.Module):
        """The parent in which grad-cam replaces the layer."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, z):
            return self.net(z)

    with AblationCAM(Holder().eval(), [layer], **options) as cam:
        return torch.from_numpy(cam(x, [ClassifierOutputTarget(target)]))[:, None]


def unit_scaled(maps, size):
    """As grad-cam brings a map to the input's size."""
    from pytorch_grad_cam.utils.image import scale_cam_image

    resized = scale_cam_image(maps[:, 0].numpy(), size[::-1])
    return torch.from_numpy(scale_cam_image(resized))[:, None]


@pytest.mark.parametrize("negative", [False, True], ids=["after relu", "before it"])
def test_grad_cam_computes_the_same_map(negative):
    net, x = ConvNet(), images()[:1].float()
    if negative:
        net.features = net.features[:2]
    score = net(x)[0]
    target = int(score.argmax())
    fill = "below_minimum" if negative else "zero"

    ours = LayerAblationCAM(net, net.features).attribute(x, target, fill=fill)

    theirs = of_grad_cam(net, net.features, x, target, batch_size=1)
    torch.testing.assert_close(
        unit_scaled(ours, x.shape[2:]), theirs, rtol=1e-4, atol=1e-4
    )
    assert theirs.amax() > 0.9


class Rows:
    """Counts the rows that modules see, by name."""

    def __init__(self, **modules):
        self.rows = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_pre_hook(
                lambda _, args, name=name: self.rows[name].append(len(args[0]))
            )


@every_method
@pytest.mark.parametrize("chunk", [1, 3, 50, None])
def test_the_part_before_the_layer_runs_with_one_row(name, chunk):
    net, x = ConvNet().double(), images()
    units = 5 if name == "Ablation-CAM" else net.features(x)[0, 0].numel()
    rows = Rows(before=net.features[0], after=net.mix).rows

    METHODS[name](net, net.features).attribute(x, TARGETS, internal_batch_size=chunk)

    checked = min(chunk or 4, 4)
    assert rows["before"][0] == rows["after"][0] == len(x)
    assert set(rows["before"][1:]) == {1}
    assert rows["after"][1] == checked
    assert max(rows["after"][1:]) <= (chunk or 10**6)
    alone = int(checked == 4)
    assert sum(rows["after"][2:]) == alone + len(x) * units
    assert len(rows["after"]) == 2 + alone + len(x) * -(-units // (chunk or 10**6))


def test_a_channel_of_zeros_costs_no_pass():
    net, x = ConvNet().double(), images()
    assert not net.features(x)[:, DEAD].any()
    rows = Rows(after=net.mix).rows

    LayerAblationCAM(net, net.features).attribute(x, TARGETS)

    assert sum(rows["after"][3:]) == len(x) * 5


class FixedView(ConvNet):
    """Takes the number of rows from its input."""

    def forward(self, x):
        hidden = torch.relu(self.mix(self.features(x))).reshape(len(x), 8, -1)
        return self.head(hidden.amax(2) + hidden.mean(2))


class Beside(ConvNet):
    """A branch around the layer, which is added to or put next to what follows it."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        beside = 0.1 * x.mean((1, 2, 3)).view(-1, 1)
        hidden = torch.relu(self.mix(self.features(x))).flatten(2)
        logits = self.head(hidden.amax(2) + hidden.mean(2))
        if self.how == "added":
            return logits + beside
        if self.how == "in place":
            whole = beside.repeat(1, 5)
            return whole.add_(logits)
        return torch.cat([logits, beside], 1)


class Squeezed(ConvNet):
    """Takes the mean over rows of the batch, if there is only one before the layer."""

    def forward(self, x):
        out = super().forward(x)
        return out if len(x) > 1 else out.mean(0, keepdim=True).expand(len(out), -1)


@every_method
@pytest.mark.parametrize(
    ("model", "one_row"),
    [
        (FixedView, False),
        (lambda: Beside("added"), True),
        (lambda: Beside("in place"), False),
        (lambda: Beside("joined"), False),
        (Squeezed, False),
    ],
    ids=["fixed view", "added", "in place", "joined", "mean of rows"],
)
def test_models_that_need_all_rows_get_them(name, model, one_row):
    net, x = model().double(), images()
    slow = ablation_cam if name == "Ablation-CAM" else recipro_cam
    rows = Rows(before=net.features[0], after=net.mix).rows

    ours = METHODS[name](net, net.features, score="softmax").attribute(
        x, TARGETS, internal_batch_size=4
    )

    assert (max(rows["before"][2:]) == 1) == one_row
    assert max(rows["after"]) <= 4
    for number, (row, target) in enumerate(zip(x, TARGETS, strict=True)):

        def scored(activations, row=row):
            handle = net.features.register_forward_hook(lambda *_: activations)
            try:
                return net(row[None]).softmax(1)
            finally:
                handle.remove()

        with torch.no_grad():
            expected = slow(scored, net.features(row[None])[0], target)
        torch.testing.assert_close(ours[number, 0], expected, **EXACT)


@every_method
def test_a_first_example_without_an_output_hides_nothing(name):
    net, x = Squeezed().double(), images()
    for module in net.features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.bias)
    x[0] = 0
    explain = METHODS[name](net, net.features, score="softmax")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its map is zero
        together = explain.attribute(x, TARGETS)
    alone = explain.attribute(x[1:2], TARGETS[1])

    torch.testing.assert_close(together[1:2], alone, **EXACT)


class Crowded(nn.Module):
    """A part of a model with memory for two rows."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        if len(x) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.part(x)


@every_method
def test_memory_that_runs_out_behind_the_layer_halves_the_chunk(name):
    net, x = ConvNet().double(), images()
    expected = METHODS[name](net, net.features).attribute(x, TARGETS)
    net.mix = Crowded(net.mix)
    explain = METHODS[name](net, net.features)

    with pytest.warns(RuntimeWarning, match="Memory ran out") as caught:
        found = explain.attribute(x, TARGETS)

    assert sum(w.category is RuntimeWarning for w in caught) == 1
    torch.testing.assert_close(found, expected, **EXACT)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        explain.attribute(x, TARGETS, internal_batch_size=3)


class Twice(ConvNet):
    """Runs one activation function twice."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        hidden = self.relu(self.mix(self.relu(self.features[:2](x)))).flatten(2)
        return self.head(hidden.amax(2) + hidden.mean(2))


@every_method
@pytest.mark.filterwarnings("ignore:The layer, a ReLU, runs 2 times")
def test_the_last_call_of_a_layer_is_masked(name):
    net, x = Twice().double(), images()
    slow = ablation_cam if name == "Ablation-CAM" else recipro_cam

    ours = METHODS[name](net, net.relu, score="softmax").attribute(x, TARGETS)

    def last(z):
        return torch.relu(net.mix(net.features(z)))

    def scored(hidden):
        hidden = hidden.flatten(2)
        return net.head(hidden.amax(2) + hidden.mean(2)).softmax(1)

    torch.testing.assert_close(ours, expected_maps(slow, scored, last, x), **EXACT)


@every_method
def test_the_layers_input_is_masked(name):
    net, x = ConvNet().double(), images()
    explain = METHODS[name](net, net.mix)

    ours = explain.attribute(x, TARGETS, attribute_to_layer_input=True)

    expected = METHODS[name](net, net.features).attribute(x, TARGETS)
    torch.testing.assert_close(ours, expected, **EXACT)


@every_method
def test_tokens_are_masked_where_the_transform_has_them_from(name):
    model = MODELS["vit"]().double()
    layer = model.encoder.layers[-1].ln_1
    x = torch.rand(2, 3, SIZES["vit"], SIZES["vit"]).double()
    seen = []
    handle = layer.register_forward_hook(lambda _, __, out: seen.append(out))
    model(x)
    handle.remove()
    tokens = seen[0].detach()

    ours = METHODS[name](
        model, layer, score="softmax", reshape_transform=vit
    ).attribute(x, [1, 2])

    slow = ablation_cam if name == "Ablation-CAM" else recipro_cam
    for number, target in enumerate([1, 2]):

        def scored(maps, number=number):
            own = tokens[number : number + 1].clone()
            own[:, 1:] = maps.flatten(2).transpose(1, 2)
            handle = layer.register_forward_hook(lambda *_: own)
            try:
                return model(x[number : number + 1]).softmax(1)
            finally:
                handle.remove()

        with torch.no_grad():
            expected = slow(scored, vit(tokens[number : number + 1])[0], target)
        torch.testing.assert_close(ours[number, 0], expected, rtol=1e-8, atol=1e-11)


@every_method
@pytest.mark.parametrize(
    "transform",
    [torch.abs, lambda out: out * 2, lambda out: torch.cat([out, out], 1)],
    ids=["abs", "times two", "twice"],
)
def test_transforms_that_compute_are_refused(name, transform):
    net, x = ConvNet().double(), images()
    net.features = net.features[:2]
    explain = METHODS[name](net, net.features, reshape_transform=transform)

    with pytest.raises(ValueError, match="reshape_transform must move the values"):
        explain.attribute(x, TARGETS)


class Sum(nn.Module):
    """The score is the sum of the layer, and a constant."""

    def __init__(self, constant=0.0):
        super().__init__()
        self.maps, self.constant = nn.Identity(), constant
        self.eval()

    def forward(self, x):
        return self.maps(x).flatten(1).sum(1) + self.constant


CHANNELS = torch.tensor([[[[3.0, 1.0]], [[2.0, 0.0]]]], dtype=torch.float64)


def test_two_channels_by_hand():
    model = Sum()
    ablated = LayerAblationCAM(model, model.maps).attribute(CHANNELS)
    seen = LayerReciproCAM(model, model.maps, score="identity")

    single = seen.attribute(CHANNELS, window="single", normalize=False)

    # a = (4 / 6, 2 / 6)
    assert ablated.flatten().tolist() == pytest.approx([8 / 3, 2 / 3])
    assert single.flatten().tolist() == [5.0, 1.0]


@pytest.mark.parametrize("constant", [-6.0, -6.0 + 1e-320])
def test_a_score_of_zero_has_no_shares(constant):
    model = Sum(constant)

    with pytest.warns(UserWarning, match="example 0 is zero or almost so"):
        out = LayerAblationCAM(model, model.maps).attribute(CHANNELS)

    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.filterwarnings("default:The score of example")
def test_a_negative_score_is_said():
    model = Sum(-10.0)

    with pytest.warns(UserWarning, match="example 0 is negative"):
        out = LayerAblationCAM(model, model.maps).attribute(
            CHANNELS, relu_attributions=False
        )

    assert out.flatten().tolist() == pytest.approx([-4.0, -1.0])


@pytest.mark.filterwarnings("default:The map is zero")
def test_equal_scores_are_a_map_of_zeros():
    model, x = Sum(), torch.ones(1, 2, 3, 3)

    with pytest.warns(UserWarning, match="zero everywhere for example 0: every pos"):
        out = LayerReciproCAM(model, model.maps, score="identity").attribute(
            x, window="single"
        )

    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (LayerAblationCAM, "without channel 1"),
        (LayerReciproCAM, r"at position \(0, 1\) of the layer"),
    ],
)
def test_a_pass_without_a_finite_score_is_named(method, words):
    class Broken(Sum):
        def forward(self, x):
            shown = self.maps(x)
            first, second = shown[:, 0], shown[:, 1]
            last = (second == 0).all((1, 2)) & (first > 0).all((1, 2))
            last |= (first[:, 0, 0] > 0) & (first[:, 0, 0] < 0.5)
            return shown.flatten(1).sum(1).masked_fill(last, torch.nan)

    model = Broken()

    with pytest.raises(RuntimeError, match=words):
        method(model, model.maps, score="identity").attribute(CHANNELS)


@every_method
def test_scores_that_change_with_the_call_are_said(name):
    class Random(ConvNet):
        def forward(self, x):
            return super().forward(x) + torch.rand(1, 5)

    net, x = Random().double(), images()

    with pytest.warns(UserWarning, match="example 0 changes from call to call"):
        METHODS[name](net, net.features).attribute(x, TARGETS)


class Offset(ConvNet):
    """A network whose output has a large offset, below which little of it is left."""

    def __init__(self, offset, slope=1.0):
        super().__init__()
        self.offset, self.slope = offset, slope

    def forward(self, x):
        return self.slope * super().forward(x) + self.offset


@every_method
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e2, 1e4, 1e5, 1e6])
def test_a_map_of_rounding_is_warned_of(name, offset, size):
    """Of any size: a score of 1e20 has no square in single precision."""
    x = images()
    single, double = Offset(size * offset, size), Offset(size * offset, size).double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, true = (
            METHODS[name](net, net.features, score="identity").attribute(
                x.to(net.head.weight.dtype), TARGETS, relu_attributions=False
            )
            for net in (single, double)
        )

    error = float((found - true).norm() / true.norm())
    warned = any("more than their last digit" in str(one.message) for one in caught)
    assert warned or error < 0.05
    assert not warned or offset >= 1e3


@every_method
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_half_precision_has_fewer_digits(name, offset):
    net, x = Offset(offset), images().float()
    explain = METHODS[name](net, net.features, score="identity")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        true = explain.attribute(x, TARGETS, relu_attributions=False)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = explain.attribute(x, TARGETS, relu_attributions=False)

    error = float((found - true).norm() / true.norm())
    warned = any("more than their last digit" in str(one.message) for one in caught)
    assert warned or error < 0.05
    assert warned or not offset
