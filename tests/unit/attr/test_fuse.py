import pytest
import torch
from reference.networks import ConvNet, images

from captum_iscam import LayerScoreCAM
from captum_iscam.attr import fuse

WIDE = torch.tensor([[[[4.0, 0.0], [1.0, 2.0]]]])
TALL = torch.tensor([[[[0.0, 10.0], [5.0, 10.0]]]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [[0.5, 0.5], [0.375, 0.75]]),
        ("max", [[1.0, 1.0], [0.5, 1.0]]),
        ("product", [[0.0, 0.0], [0.125, 0.5]]),
    ],
)
def test_two_maps_by_hand(how, expected):
    out = fuse([WIDE, TALL], how)

    torch.testing.assert_close(out, torch.tensor([[expected]]))


def test_without_scaling_the_units_stay():
    out = fuse([WIDE, TALL], scaled=False)

    torch.testing.assert_close(out, (WIDE + TALL) / 2)


def test_a_single_map_is_scaled_by_example():
    maps = torch.cat([WIDE, -TALL, torch.zeros_like(WIDE)])

    out = fuse([maps])

    torch.testing.assert_close(out, torch.cat([WIDE / 4, -TALL / 10, 0 * WIDE]))


@pytest.mark.parametrize(
    ("sizes", "size", "expected"),
    [
        ([(5,), (9,)], None, (9,)),
        ([(5, 9), (7, 3)], None, (7, 9)),
        ([(2, 3, 4), (4, 3, 2)], (6, 5, 7), (6, 5, 7)),
    ],
)
def test_the_size_is_the_largest_or_the_one_given(sizes, size, expected):
    maps = [torch.rand(2, 1, *own) for own in sizes]

    assert fuse(maps, size=size).shape == (2, 1, *expected)


def test_upsampling_is_linear_and_comes_before_the_scaling():
    small, large = torch.tensor([[[0.0, 8.0, 0.0]]]), torch.zeros(1, 1, 6)

    out = fuse([small, large], "max")

    # Between the places of the small map the peak of 8 is seen as 6.
    third = 1 / 3
    torch.testing.assert_close(out, torch.tensor([[[0, third, 1, 1, third, 0]]]))


def test_it_takes_what_a_list_of_layers_gives():
    net, x = ConvNet().double(), images()
    layers = [net.features[0], net.mix]

    maps = LayerScoreCAM(net, layers).attribute(x, 1, relu_attributions=False)

    out = fuse(maps, size=x.shape[2:])
    assert out.shape == (2, 1, 11, 14)
    assert out.dtype == torch.float64
    assert out.abs().max() <= 1


@pytest.mark.parametrize(
    ("maps", "options", "error", "match"),
    [
        (WIDE, {}, TypeError, "must be a list of tensors, one per layer, got Tensor"),
        ([WIDE, 1], {}, TypeError, "attributions must be a list of tensors"),
        ([], {}, ValueError, r"attributions must be maps .* got shapes \[\]"),
        ([WIDE, WIDE[0]], {}, ValueError, "attributions must be maps"),
        ([WIDE, WIDE.expand(2, 1, 2, 2)], {}, ValueError, "of the same examples"),
        ([WIDE.expand(1, 3, 2, 2)], {}, ValueError, r"maps \(N, 1, \*spatial\)"),
        ([WIDE], {"how": "sum"}, ValueError, 'how must be one of "mean", "max"'),
        ([WIDE], {"size": (4,)}, ValueError, r"size must have 2 integers.* got \(4,\)"),
        ([WIDE], {"size": (4, 0)}, ValueError, "size must have 2 integers of at least"),
        ([WIDE], {"size": (4.5, 4)}, ValueError, "size must be a sequence of integers"),
        ([WIDE.long()], {}, TypeError, "attributions must be floating point, got"),
        ([WIDE > 0], {}, TypeError, "attributions must be floating point, got"),
        ([WIDE.to_sparse()], {}, TypeError, "attributions must be a dense tensor, got"),
        ([-WIDE], {"how": "product"}, ValueError, "at least 0 for how="),
    ],
)
def test_bad_input(maps, options, error, match):
    with pytest.raises(error, match=match):
        fuse(maps, **options)
