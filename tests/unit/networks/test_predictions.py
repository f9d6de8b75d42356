"""What a network says of an image."""

import warnings

import pytest
import torch

from captum_iscam.networks.predictions import predict

SURE = torch.tensor([18.0, 40.0, 17.0, -200.0, 25.0, -150.0])


@pytest.mark.parametrize("score", [None, "softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_classes_are_ranked_where_probabilities_round_to_the_same(score, dtype):
    scores, ranked = predict(SURE.to(dtype), score)

    assert ranked == [1, 4, 0, 2, 5, 3]
    expected = {"sigmoid": SURE.sigmoid(), "identity": SURE}
    torch.testing.assert_close(scores, expected.get(score, SURE.softmax(0)))


def test_equal_outputs_keep_their_order():
    assert predict(torch.tensor([1.0, 2.0, 1.0, 2.0]), None).ranked == [1, 3, 0, 2]


@pytest.mark.parametrize("outputs", [SURE.softmax(0), torch.linspace(0.1, 0.9, 12)])
@pytest.mark.parametrize("score", [None, "sigmoid", "identity"])
def test_probabilities_of_probabilities_are_said(outputs, score):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        predict(outputs, score)

    assert len(said) == (score != "identity")
