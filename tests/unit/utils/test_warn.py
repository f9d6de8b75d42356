"""The examples that a warning names."""

import pytest
import torch

from captum_iscam._utils.warn import warn_of_examples


@pytest.mark.parametrize(
    ("which", "named"),
    [
        ([1], "example 0"),
        ([1, 0, 1], "examples 0, 2"),
        ([[0], [1]], "example 1"),
        ([[1, 0, 1]], "example 0 (columns 0, 2 of target)"),
        (
            [[0, 1], [1, 1]],
            "examples 0 (column 1 of target), 1 (columns 0, 1 of target)",
        ),
        ([1] * 12, "examples 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_an_example_is_named_once_with_its_columns(which, named):
    with pytest.warns(UserWarning, match="Look at example") as caught:
        warn_of_examples(torch.tensor(which).bool(), "Look at {}.")

    assert str(caught[0].message) == f"Look at {named}."


def test_nothing_is_said_where_there_is_no_example(recwarn):
    warn_of_examples(torch.zeros(2, 3, dtype=torch.bool), "Look at {}.")

    assert not recwarn
