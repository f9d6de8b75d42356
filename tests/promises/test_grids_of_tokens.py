"""Tokens of inputs of other proportions, of which as many make a square."""

import warnings

import pytest
import torch
from reference.every_call import LAYERED, explain
from torch import nn

from captum_iscam.layers import (
    default_layer,
    reshape_transform_for,
    spatial_layers,
)
from captum_iscam.methods import METHODS, Options
from captum_iscam.reshape_transforms import tokens

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score",
    "ignore:Channels that support",
    "ignore:The noise",
)
OPTIONS = Options(n_samples=2, n_masks=8)


class Patches(nn.Module):
    """A network of tokens, one for each patch of 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.tokens, self.head = nn.LayerNorm(6), nn.Linear(6, 5)
        self.eval()

    def forward(self, x):
        rows = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.tokens(rows).relu().mean(1))


@pytest.fixture
def wide():
    return torch.rand(2, 3, 8, 32, generator=torch.Generator().manual_seed(1))


def explained(name, net, layer, x, transform):
    explain(name, net, layer, x, 1, constructor={"reshape_transform": transform})


@pytest.mark.parametrize("name", LAYERED)
def test_another_grid_than_that_of_the_input_is_named(name, wide):
    net = Patches()

    with pytest.warns(UserWarning, match=r"grid of \(4, 4\).*tokens\(\(2, 8\), extra"):
        explained(name, net, net.tokens, wide, tokens(extra=0))


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize(
    ("sides", "grid"),
    [
        ((8, 32), (2, 8)),
        ((16, 16), (4, 4)),
        ((16, 20), (4, 5)),
        ((20, 24), (5, 6)),
        ((12, 28), (3, 7)),
    ],
)
def test_the_grid_of_the_input_is_taken_without_a_word(name, sides, grid):
    net, x = Patches(), torch.rand(1, 3, *sides)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "reshape_transform makes a grid")
        explained(name, net, net.tokens, x, tokens(grid, extra=0))


FORGOTTEN = "writes the channels of each token over the positions"
LAST = r"probably \(N, \*spatial, K\)"


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize(
    ("shape", "text"), [((6, 2, 8), FORGOTTEN), ((2, 8, 6), LAST)], ids=["cut", "last"]
)
def test_a_transform_that_leaves_the_channels_last_is_named(name, shape, text, wide):
    net = Patches()

    with pytest.warns(UserWarning, match=text) as caught:
        explained(name, net, net.tokens, wide, lambda t: t.reshape(len(t), *shape))
    assert not any("makes a grid" in str(one.message) for one in caught)


class Rows(Patches):
    """As many patches as channels, which are first: a view makes maps of them."""

    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16, 5)
        self.rows, self.tokens = nn.Flatten(2), nn.LayerNorm(16)

    def forward(self, x):
        return self.head(
            self.tokens(self.rows(self.patches(x)).transpose(1, 2)).mean(1)
        )


@pytest.mark.parametrize("layer", ["rows", "tokens"])
def test_a_view_is_right_for_channels_that_are_first(layer):
    net, x = Rows(), torch.rand(2, 3, 16, 16)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explained(
            "score-cam", net, getattr(net, layer), x, lambda t: t.unflatten(2, (4, 4))
        )
    said = [FORGOTTEN in str(one.message) for one in caught]
    assert any(said) == (layer == "tokens")


def test_patches_of_a_video_may_be_deeper_than_wide():
    class Tubes(Patches):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv3d(3, 6, (1, 4, 4), stride=(1, 4, 4))

    net, x = Tubes(), torch.rand(1, 3, 4, 16, 16)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "reshape_transform makes a grid")
        explained("grad-cam++", net, net.tokens, x, tokens((4, 4, 4), extra=0))


def timm_vit(**options):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        **{"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2},
        **{"num_heads": 2, "num_classes": 3, "dynamic_img_size": True, **options},
    )
    return model.eval()


class Logits(nn.Module):
    """The logits of a model of Hugging Face."""

    def __init__(self, model, **options):
        super().__init__()
        self.model, self.options = model, options
        self.eval()

    def forward(self, x):
        return self.model(x, **self.options).logits


def hugging_face_vit():
    library = pytest.importorskip("transformers")
    config = library.ViTConfig(
        **{"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_labels": 3},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    )
    model = library.ViTForImageClassification(config)
    return Logits(model, interpolate_pos_encoding=True)


def hugging_face_swin(kind="Swin"):
    library = pytest.importorskip("transformers")
    config = getattr(library, f"{kind}Config")(
        **{"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2]},
        **{"num_heads": [2, 2], "window_size": 2, "num_labels": 3},
    )
    return Logits(getattr(library, f"{kind}ForImageClassification")(config))


class Resized(nn.Module):
    """A model behind a resizing of its own."""

    def __init__(self, model, size):
        super().__init__()
        self.model, self.size = model, size
        self.eval()

    def forward(self, x):
        return self.model(nn.functional.interpolate(x, self.size))


# A model, the size of an input, and the grid that it has at the layer to explain.
GRIDS = {
    "timm": (timm_vit, (16, 64), (2, 8)),
    "timm, the size it was made for": (timm_vit, (32, 32), (4, 4)),
    "timm, padded": (lambda: timm_vit(dynamic_img_pad=True), (13, 60), (2, 8)),
    "timm, no class token": (
        lambda: timm_vit(class_token=False, global_pool="avg"),
        (16, 64),
        (2, 8),
    ),
    "timm, resized": (lambda: Resized(timm_vit(), (32, 32)), (16, 64), (4, 4)),
    "timm, larger": (timm_vit, (48, 40), (6, 5)),
    "ViT of Hugging Face": (hugging_face_vit, (16, 64), (2, 8)),
    "Swin of Hugging Face": (hugging_face_swin, (16, 64), (2, 8)),
    "Swin of Hugging Face, odd sides": (hugging_face_swin, (36, 100), (5, 13)),
    "Swin V2 of Hugging Face": (lambda: hugging_face_swin("Swinv2"), (16, 64), (2, 8)),
}


@pytest.mark.parametrize("name", ["grad-cam", "score-cam", "recipro-cam", "poly-cam"])
@pytest.mark.parametrize("kind", GRIDS)
# A resizing of the model's own may well change the proportions.
@pytest.mark.filterwarnings("ignore:reshape_transform makes a grid")
def test_methods_by_name_take_the_grid_of_the_pass(name, kind):
    make, sides, grid = GRIDS[kind]
    model, x = make(), torch.rand(1, 3, *sides)
    found, layer = default_layer(model, x)

    maps = METHODS[name].attribute(model, layer, x, 0, OPTIONS)

    assert maps.shape == (1, 1, *grid)
    assert found in spatial_layers(model, x)
    assert not any(m._forward_hooks for m in model.modules())


def test_tokens_are_where_the_patches_of_a_wide_image_are():
    model, x = timm_vit(), torch.zeros(1, 3, 16, 64)
    layer = model.blocks[0].norm1
    seen = []
    layer.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    transform = reshape_transform_for(model, layer, x)
    model(x)
    x[..., 8:16, 40:48] = 1  # the patch in row 1, column 5
    model(x)

    before, after = map(transform, seen[-2:])
    changed = (after - before).abs().amax((0, 1)) > 1e-6
    assert changed.nonzero().tolist() == [[1, 5]]


def test_without_inputs_the_grid_is_the_one_a_model_was_made_for():
    model, x = timm_vit(), torch.rand(1, 3, 16, 64)
    layer = model.blocks[1].norm1

    transform = reshape_transform_for(model, layer)

    assert transform(torch.rand(1, 17, 16)).shape == (1, 16, 4, 4)
    with pytest.warns(UserWarning, match=r"as many make \(2, 8\)"):
        explained("grad-cam++", model, layer, x, transform)


def test_merged_tokens_that_fill_no_grid_are_an_error():
    model, x = hugging_face_swin(), torch.rand(1, 3, 36, 100)
    transform = reshape_transform_for(model, model.model.swin.layernorm, x)

    with pytest.raises(ValueError, match="grid must have one position for each token"):
        transform(torch.rand(1, 64, 4))
    with pytest.raises(ValueError, match="layer must give tokens"):
        transform(torch.rand(1, 64))
