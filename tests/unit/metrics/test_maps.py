import warnings

import pytest
import torch

from captum_iscam._utils.interpolate import scale
from captum_iscam.metrics._maps import check_maps, mean_ranks, ranks, resize


def test_maps_of_the_right_size_stay_bit_for_bit():
    maps = torch.rand(2, 1, 5, 7)

    assert resize(maps, (5, 7)) is maps


def test_layer_maps_are_upsampled_linearly_without_aligned_corners():
    maps = torch.tensor([[[[0.0, 4.0]]]])

    brought = resize(maps, (1, 4))

    torch.testing.assert_close(brought, torch.tensor([[[[0.0, 1.0, 3.0, 4.0]]]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(23, 23), (224, 223)])
def test_constant_maps_stay_constant_when_upsampled(size, dtype):
    # Interpolation alone rounds some of these up or down in some places.
    values = torch.linspace(-1, 1, 41, dtype=dtype)
    maps = values.view(-1, 1, 1, 1).expand(-1, 1, 14, 14)

    brought = resize(maps, size)

    assert torch.equal(brought, values.view(-1, 1, 1, 1).expand(-1, 1, *size))


def test_scaled_maps_span_zero_to_one_and_constants_become_zero():
    maps = torch.tensor([[[-3.0, 1.0, -1.0]], [[2.0, 2.0, 2.0]]])

    scaled = scale(maps)

    assert scaled.tolist() == [[[0.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]]]


def test_ranks_count_from_the_highest_and_break_ties_in_row_order():
    maps = torch.tensor([[[[1.0, 5.0], [1.0, 5.0]]]])

    assert ranks(maps).tolist() == [[2, 0, 3, 1]]


def test_half_precision_maps_are_judged_in_single_precision():
    assert check_maps(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype is (
        torch.float32
    )


def test_a_tuple_of_one_map_is_that_map():
    maps = torch.rand(1, 1, 2)

    assert torch.equal(check_maps((maps,)), maps)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2, 3, 4, 4), r"shape \(N, 1, ...\).*got \(2, 3, 4, 4\)"),
        ((2, 4), r"got \(2, 4\)"),
        ((2, 1, 0, 4), r"got \(2, 1, 0, 4\)"),
        ((2, 1, 1, 1, 1, 1), "one to three spatial"),
    ],
)
def test_maps_of_a_wrong_shape_are_refused(shape, match):
    with pytest.raises(ValueError, match=match):
        check_maps(torch.zeros(shape))


@pytest.mark.parametrize(
    ("maps", "match"),
    [
        ([[1.0]], "must be a tensor, got list"),
        ((torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)), "must be a tensor, got tuple"),
        (torch.zeros(1, 1, 2, dtype=torch.long), "floating point, got torch.int64"),
    ],
)
def test_what_is_no_map_is_refused(maps, match):
    with pytest.raises(TypeError, match=match):
        check_maps(maps)


@pytest.mark.parametrize("size", [(3, 9), (9,), (9, 9, 9)])
def test_maps_that_fit_neither_layer_nor_input_are_refused(size):
    with pytest.raises(ValueError, match=r"layer's size or of the input's size"):
        resize(torch.zeros(1, 1, 4, 4), size)


def test_maps_with_rows_and_columns_exchanged_are_noticed():
    with pytest.warns(UserWarning, match=r"4 x 8 .* 20 x 10, .*transpose\(2, 3\)"):
        resize(torch.rand(1, 1, 4, 8), (20, 10))


@pytest.mark.parametrize("size", [(8, 16), (8, 8), (9, 15), (4, 160)])
def test_maps_of_other_shapes_are_not_warned_of(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resize(torch.rand(1, 1, 4, 8), size)


def test_mean_ranks_are_shared_among_equal_values_row_by_row():
    values = torch.tensor([[1.0, 3.0, 3.0, 7.0], [2.0, 2.0, 2.0, -1.0]])

    found = mean_ranks(values)

    # Correlations ignore a constant, so only differences of ranks count.
    assert (found - found.min()).tolist() == [[0, 1.5, 1.5, 3], [2, 2, 2, 0]]
    assert found.dtype is torch.float64
