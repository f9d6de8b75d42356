import pytest
import torch

from captum_iscam.metrics._maps import (
    correlation,
    rank_correlation,
    structural_similarity,
)


def test_rank_correlation_is_one_for_any_rising_function():
    maps = torch.rand(3, 1, 6, 5)

    assert rank_correlation(maps, maps.exp()).tolist() == [1, 1, 1]
    assert rank_correlation(maps, -(maps**3)).tolist() == [-1, -1, -1]


def test_rank_correlation_shares_the_mean_rank_among_ties():
    first = torch.tensor([[[1.0, 2.0, 2.0, 3.0]]])
    second = torch.tensor([[[1.0, 3.0, 2.0, 4.0]]])

    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: 4.5 / sqrt(4.5 * 5).
    expected = torch.tensor([4.5 / (4.5 * 5) ** 0.5])
    torch.testing.assert_close(rank_correlation(first, second), expected)


def test_rank_correlation_agrees_with_scipy_on_data_with_ties():
    stats = pytest.importorskip("scipy.stats")
    first, second = torch.randint(0, 5, (2, 4, 1, 6, 7)).float()

    found = rank_correlation(first, second)

    pairs = zip(first, second, strict=True)
    expected = [stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in pairs]
    torch.testing.assert_close(found, torch.tensor(expected), check_dtype=False)


@pytest.mark.parametrize("measure", [correlation, rank_correlation])
def test_a_constant_map_correlates_with_itself_alone(measure):
    constant, other = torch.full((1, 1, 3, 3), 0.1), torch.rand(1, 1, 3, 3)

    assert measure(constant, other).item() == 0
    assert measure(constant, constant).item() == 1


def test_different_constants_correlate_with_nothing():
    # Their means round, so that what is left after centring is not exactly zero.
    values = torch.linspace(0.1, 0.9, 9, dtype=torch.float64).view(9, 1, 1, 1)
    constants = values.expand(9, 1, 3, 3)

    assert correlation(constants[1:], constants[:-1]).eq(0).all()


@pytest.mark.parametrize("size", [(24, 31), (11, 11), (7, 6), (40,), (12, 13, 14)])
def test_ssim_of_equal_maps_is_one_and_of_opposite_maps_is_low(size):
    maps = torch.rand(2, 1, *size)

    torch.testing.assert_close(structural_similarity(maps, maps), torch.ones(2))
    assert (structural_similarity(maps, 1 - maps) < 0).all()


def test_ssim_of_two_constants_is_its_luminance_term():
    dark, light = torch.full((1, 1, 20, 20), 0.2), torch.full((1, 1, 20, 20), 0.6)

    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(
        structural_similarity(dark, light), torch.tensor([expected])
    )


def test_ssim_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    first, second = torch.rand(2, 1, 1, 33, 27, dtype=torch.float64)

    expected = metrics.structural_similarity(
        first[0, 0].numpy(),
        second[0, 0].numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )

    assert structural_similarity(first, second).item() == pytest.approx(expected)
