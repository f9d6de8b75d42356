"""Transforms of tokens into maps, against the transformers they are made for."""

import pytest
import torch
from reference.methods import METHODS, attribute
from reference.transformers import small_maxvit, small_swin, small_vit

from captum_iscam import LayerScoreCAM
from captum_iscam.reshape_transforms import (
    maxvit_grid,
    maxvit_windows,
    swin,
    tokens,
    vit,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)


def output_of(model, layer, x):
    seen = []
    handle = layer.register_forward_hook(lambda _, args, out: seen.append((args, out)))
    model(x)
    handle.remove()
    return seen[-1]


def test_vit_puts_each_patch_where_it_was():
    model = small_vit()
    x = torch.rand(2, 3, 32, 32)
    patches = model.conv_proj(x)  # (N, K, h, w), before they become tokens
    tokens_in, _ = output_of(model, model.encoder.dropout, x)

    positions = model.encoder.pos_embedding

    torch.testing.assert_close(vit(tokens_in[0] - positions), patches)


def test_vit_drops_the_class_token_alone():
    numbered = torch.arange(5.0).view(1, 5, 1)

    assert vit(numbered).tolist() == [[[[1, 2], [3, 4]]]]


def test_swin_moves_the_channels_to_the_front():
    model, x = small_swin(), torch.rand(2, 3, 32, 24)

    _, last = output_of(model, model.norm, x)

    _, permuted = output_of(model, model.permute, x)
    assert torch.equal(swin(last), permuted)


@pytest.mark.parametrize(
    ("kind", "transform"),
    [("window_attention", maxvit_windows), ("grid_attention", maxvit_grid)],
)
@pytest.mark.parametrize("block", [0, 1, 2])
def test_maxvit_undoes_its_partitions(kind, transform, block):
    model, x = small_maxvit(), torch.rand(1, 3, 64, 64)
    attention = model.blocks[block].layers[0].layers.get_submodule(kind)

    (maps, *_), _ = output_of(model, attention, x)

    # What the first layer norm inside is shown are the maps, partitioned.
    (parts, *_), _ = output_of(model, attention.attn_layer[0], x)
    assert torch.equal(transform(parts), maps)


@pytest.mark.parametrize(
    ("grid", "extra", "count", "expected"),
    [
        (None, 0, 9, (3, 3)),
        (None, 2, 18, (4, 4)),
        ((2, 5), 5, 15, (2, 5)),
        ((7,), 0, 7, (7,)),
        ((2, 3, 4), 1, 25, (2, 3, 4)),
    ],
)
def test_tokens(grid, extra, count, expected):
    out = torch.rand(2, count, 6)

    maps = tokens(grid, extra)(out)

    assert maps.shape == (2, 6, *expected)
    assert torch.equal(maps.flatten(2).transpose(1, 2), out[:, extra:])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["vit", "swin", "window_attention", "grid_attention"])
def test_every_method_explains_transformers(name, kind):
    x = torch.rand(1, 3, 64, 64) if "attention" in kind else torch.rand(1, 3, 32, 32)
    if kind == "vit":
        model, transform, size = small_vit(), vit, (4, 4)
        layer = model.encoder.layers[-1].ln_1
    elif kind == "swin":
        model, transform, size = small_swin(), swin, (4, 4)
        layer = model.features[-1]
    else:
        model, size = small_maxvit(), (4, 4)
        transform = maxvit_grid if kind == "grid_attention" else maxvit_windows
        layer = model.blocks[2].layers[0].layers.get_submodule(kind).attn_layer[0]

    out = attribute(
        name,
        model,
        layer,
        x,
        1,
        constructor={"reshape_transform": transform, "score": "identity"},
        relu_attributions=False,
    )

    assert out.shape == (1, 1, *size)
    assert torch.isfinite(out).all()
    assert out.max() > out.min()


@pytest.mark.parametrize(
    ("transform", "shape", "match"),
    [
        (vit, (2, 9, 4), r"got \(2, 2\) for 9 tokens, 1 of them without a position"),
        (vit, (2, 1, 4), r"grid must have one position for each token"),
        (vit, (2, 9, 4, 4), r"tokens \(N, tokens, K\) .* got the shape \(2, 9, 4, 4\)"),
        (tokens((3, 3), 0), (2, 10, 4), r"reshape_transforms\.tokens\(grid, extra\)"),
        (swin, (2, 9), r"maps \(N, \*spatial, K\) .* got the shape \(2, 9\)"),
        (maxvit_windows, (2, 3, 16, 4), r"square windows .* \(2, 3, 16, 4\)"),
        (maxvit_grid, (2, 4, 15, 4), r"square windows .* \(2, 15, 4, 4\)"),
        (maxvit_windows, (2, 3), r"square windows .* \(2, 3\)"),
    ],
)
def test_outputs_that_do_not_fit(transform, shape, match):
    with pytest.raises(ValueError, match=match):
        transform(torch.rand(shape))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"extra": -1}, "extra must be at least 0, got -1"),
        ({"grid": (0, 3)}, r"grid must have at least one position, got \(0, 3\)"),
        ({"grid": ()}, r"grid must have at least one position, got \(\)"),
    ],
)
def test_grids_that_cannot_be(arguments, match):
    with pytest.raises(ValueError, match=match):
        tokens(**arguments)


def test_tokens_without_a_transform_name_the_ready_made_ones():
    model, x = small_vit(), torch.rand(1, 3, 32, 32)
    layer = model.encoder.layers[-1].ln_1

    with pytest.raises(
        ValueError, match=r"reshape_transforms are vit .* swin .*maxvit"
    ):
        LayerScoreCAM(model, layer).attribute(x, 1)
