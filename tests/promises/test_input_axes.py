"""Inputs with their channels elsewhere, and layers that declare their channels."""

import re
import warnings

import pytest
import torch
import torchvision
from reference.every_call import ALL, LAYERED, explain
from torch import nn

from captum_iscam import RISE, LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.attr.integrated_gradients import CheckedIntegratedGradients
from captum_iscam.attr.occlusion import WindowOcclusion
from captum_iscam.reshape_transforms import channels_first

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example.*abruptly",
    "ignore:The score of example.*negative",
    "ignore:Channels that support",
    "ignore:The noise",
)


class Moving(nn.Module):
    """Moves the axes of its input before its first module, which has four outputs."""

    def __init__(self, first, order, back=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem = first
        self.layer = nn.Identity()
        self.order, self.back = order, back
        self.head = nn.Linear(4, 3)
        self.eval()

    def forward(self, x):
        maps = self.stem(x.permute(self.order))
        if self.back is not None:
            maps = maps.permute(self.back)
        return self.head(self.layer(maps).flatten(2).mean(2))


NHWC, NTC, NTCHW, NTHWC, NHCW = [
    (0, 3, 1, 2),
    (0, 2, 1),
    (0, 2, 1, 3, 4),
    (0, 4, 1, 2, 3),
    (0, 2, 1, 3),
]
# The first module, how the model moves its input, the size of it, and its order.
MOVED = {
    "images": (lambda: nn.Conv2d(3, 4, 3, stride=4), NHWC, (8, 8, 3), "NHWC"),
    "wide images": (lambda: nn.Conv2d(3, 4, 3, stride=4), NHWC, (8, 20, 3), "NHWC"),
    "rows of channels": (
        lambda: nn.Conv2d(3, 4, 3, stride=4),
        NHCW,
        (9, 3, 12),
        "NHCW",
    ),
    "sequence": (lambda: nn.Conv1d(8, 4, 3, stride=3), NTC, (10, 8), "NTC"),
    "longer sequence": (lambda: nn.Conv1d(8, 4, 9, stride=3), NTC, (50, 8), "NTC"),
    "frames": (lambda: nn.Conv3d(3, 4, 3, stride=2), NTCHW, (6, 3, 8, 8), "NTCHW"),
    "volumes": (lambda: nn.Conv3d(3, 4, 3, stride=3), NTHWC, (6, 8, 9, 3), "NTHWC"),
    "transposed": (lambda: nn.ConvTranspose1d(8, 4, 1), NTC, (10, 8), "NTC"),
}


def moved(kind):
    make, order, size, letters = MOVED[kind]
    return Moving(make(), order), torch.rand(2, *size), letters


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", MOVED)
def test_inputs_with_the_channels_elsewhere_name_the_order(name, kind):
    model, x, order = moved(kind)

    with pytest.warns(UserWarning, match=f"probably {order}: .*first Conv") as caught:
        explain(name, model, model.layer, x, 1)

    assert sum("read as" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("kind", MOVED)
@pytest.mark.parametrize("form", ["module", "function", "object"])
def test_the_way_that_is_named_gives_maps_without_a_warning(kind, form):
    model, x, order = moved(kind)

    class Held:
        def __init__(self):
            self.model = model

        def __call__(self, x):
            return self.model(x)

    shown = {"module": model, "function": lambda z: model(z), "object": Held()}[form]
    with pytest.warns(UserWarning, match="channels_first") as caught:
        LayerScoreCAM(shown, model.layer).attribute(x, 1)
    axis = int(re.search(r"inputs\.movedim\((\d), 1\)", str(caught[0].message))[1])

    wrapped, y = channels_first(shown, order), x.movedim(axis, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*read as")
        found = LayerScoreCAM(wrapped, model.layer).attribute(y, 1)
        RISE(wrapped).attribute(y, 1, n_masks=3)

    assert found.shape[2:] == model.stem(x.permute(model.order)).shape[2:]


class Frames(nn.Module):
    """Takes a video one frame at a time, all in one pass or one after the other."""

    def __init__(self, order, folds=True):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.order, self.folds = nn.Conv2d(3, 4, 3), order, folds
        self.eval()

    def forward(self, video):
        frames = video.permute(self.order)
        if self.folds:
            maps = self.first(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        else:
            maps = torch.stack([self.first(x) for x in frames.unbind(1)], 1)
        return maps.mean((1, 3, 4))


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize(
    ("order", "shape", "letters"),
    [
        ((0, 1, 2, 3, 4), (5, 3, 8, 8), "NTCHW"),
        ((0, 1, 4, 2, 3), (5, 8, 9, 3), "NTHWC"),
    ],
)
def test_videos_of_which_a_model_takes_frames_name_the_order(
    folds, order, shape, letters
):
    model, video = Frames(order, folds), torch.rand(1, *shape)
    axis = letters.index("C")

    with pytest.warns(UserWarning, match=f"probably {letters}: .*from axis {axis}"):
        RISE(model).attribute(video, 0, n_masks=3)
    for method in (WindowOcclusion, CheckedIntegratedGradients):
        with pytest.warns(UserWarning, match=f"probably {letters}: "):
            method(model).attribute(video, 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*read as")
        wrapped = channels_first(model, letters)
        RISE(wrapped).attribute(video.movedim(axis, 1), 0, n_masks=3)


@pytest.mark.parametrize(
    ("order", "shape"),
    [((0, 2, 1, 3, 4), (3, 5, 8, 8)), ((0, 1, 2, 3, 4), (1, 3, 8, 8))],
    ids=["channels first", "slices of a volume as channels"],
)
def test_frames_with_the_channels_first_are_not_named(order, shape):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*read as")
        RISE(Frames(order)).attribute(torch.rand(1, *shape), 0, n_masks=3)


def linear(order=None, back=None):
    return lambda: Moving(nn.Linear(8, 4), order or (0, 1, 2), back or (0, 2, 1))


@pytest.mark.parametrize("name", ["score-cam", "layer-cam", "channel mean", "rise"])
def test_tokens_of_a_linear_layer_are_read_as_they_are(name):
    model, x = linear()(), torch.rand(2, 10, 8)

    with pytest.warns(UserWarning, match="probably NTC: .*first Linear takes its 8"):
        explain(name, model, model.layer, x, 1)


QUIET = {
    "first": (lambda: Moving(nn.Conv2d(3, 4, 3), (0, 1, 2, 3)), (3, 8, 9)),
    "reversed axes": (lambda: Moving(nn.Conv2d(3, 4, 3), (0, 1, 3, 2)), (3, 8, 8)),
    "all alike": (lambda: Moving(nn.Conv2d(8, 4, 3), NHWC), (8, 8, 8)),
    "linear of channels": (linear((0, 2, 1)), (8, 10)),
    "squares": (lambda: Moving(nn.Conv1d(8, 4, 3), NTC), (8, 8)),
}


@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "channel mean", "rise"])
@pytest.mark.parametrize("kind", QUIET)
def test_inputs_with_the_channels_first_are_not_named(name, kind):
    make, size = QUIET[kind]
    model = make()

    explain(name, model, model.layer, torch.rand(2, *size), 1)


def unshuffled():
    return nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3), nn.Flatten(), nn.LazyLinear(3)
    )


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_first_module_of_other_sizes_says_nothing():
    model, x = unshuffled().eval(), torch.rand(1, 3, 12, 12)
    model(x)

    LayerScoreCAM(model, model[1]).attribute(x, 1)


def test_one_of_several_inputs_with_the_channels_first_is_enough():
    conv = nn.Conv2d(3, 4, 3).eval()
    x, y = torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8, 3)

    def model(x, y):
        return conv(x).mean((2, 3)) + y.mean()

    LayerScoreCAM(model, conv).attribute((x, y), 1)


def test_the_first_module_is_that_of_this_thread_and_leaves_no_hook():
    model, x, _ = moved("images")

    with pytest.warns(UserWarning, match="probably NHWC"):
        LayerScoreCAM(model, model.layer).attribute(x, 1)

    assert not model.stem._forward_pre_hooks


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "swin_t", "densenet121"])
def test_networks_of_torchvision_take_the_channels_first(name):
    small = {"image_size": 32} if name == "vit_b_16" else {}
    net = torchvision.models.get_model(name, num_classes=3, **small).eval()
    x = torch.rand(1, 3, 32, 32)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*read as")
        RISE(net).attribute(x, 1, n_masks=2)


# What the modules inside a layer declare.


class Block(nn.Module):
    """Modules whose output, or input, has its channels last."""

    def __init__(self, *modules):
        super().__init__()
        self.inside = nn.Sequential(*modules)

    def forward(self, x):
        return self.inside(x).movedim(1, -1)


class Net(nn.Module):
    def __init__(self, layer, last):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.last = layer, last
        self.head = nn.LazyLinear(3)
        self.eval()

    def forward(self, x):
        maps = self.layer(x)
        maps = maps.movedim(-1, 1) if self.last else maps
        return self.head(maps.flatten(2).mean(2))


class Dense(nn.Module):
    """Gives its input, and that of a convolution, together."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return torch.cat([x, self.conv(x)], 1)


DECLARED = {
    "convolution": (lambda: Block(nn.Conv2d(3, 5, 3, stride=2)), (16, 16)),
    "wide": (lambda: Block(nn.Conv2d(3, 7, 3, stride=2, padding=1)), (16, 14)),
    "norm": (lambda: Block(nn.Conv2d(3, 5, 2, 2), nn.BatchNorm2d(5)), (16, 16)),
    "groups": (lambda: Block(nn.Conv2d(3, 6, 2, 2), nn.GroupNorm(2, 6)), (16, 16)),
    "activation": (lambda: Block(nn.Conv2d(3, 5, 2, 2), nn.ReLU()), (16, 16)),
    "signal": (lambda: Block(nn.Conv1d(3, 5, 2, 2), nn.ReLU()), (16,)),
    "volume": (lambda: Block(nn.Conv3d(3, 5, 2, 2)), (8, 10, 12)),
}
LAST = r"probably \(N, \*spatial, K\), .*reshape_transform=.*swin"


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("kind", DECLARED)
def test_declared_channels_on_the_last_axis_are_noticed(name, kind):
    make, size = DECLARED[kind]
    net, x = Net(make(), True), torch.rand(2, 3, *size)
    net(x)

    with pytest.warns(UserWarning, match=LAST) as caught:
        explain(name, net, net.layer, x, 1)

    assert sum("read as" in str(w.message) for w in caught) == 1


UNDECLARED = {
    "convolution": lambda: nn.Conv2d(3, 5, 3, stride=2),
    "channels as wide as the map": lambda: nn.Conv2d(3, 8, 2, 2),
    "concatenated": lambda: Dense(nn.Conv2d(3, 16, 3, padding=1)),
    "concatenated many": lambda: nn.Sequential(
        nn.Conv2d(3, 40, 1), Dense(nn.Conv2d(40, 16, 3, padding=1))
    ),
    "channels last in memory": lambda: nn.Conv2d(3, 5, 2, 2).to(
        memory_format=torch.channels_last
    ),
    "norm": lambda: nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.BatchNorm2d(8)),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "channel mean"])
@pytest.mark.parametrize("kind", UNDECLARED)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_declared_channels_on_axis_1_are_not_named(name, kind, layout):
    net = Net(UNDECLARED[kind](), False)
    x = torch.rand(2, 3, 16, 16).to(memory_format=layout)
    net(x)

    explain(name, net, net.layer, x, 1)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_a_first_convolution_takes_is_declared_too():
    conv = nn.Conv2d(5, 4, 1)

    class Back(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return self.conv(x.movedim(-1, 1))

    net = nn.Sequential(Block(nn.Conv2d(3, 5, 3, 2)), Back(), nn.Flatten()).eval()
    model = nn.Sequential(net, nn.LazyLinear(3)).eval()
    x = torch.rand(1, 3, 16, 16)
    model(x)

    with pytest.warns(UserWarning, match=LAST):
        LayerIntegratedScoreCAM(model, net[1]).attribute(
            x, 1, attribute_to_layer_input=True
        )
