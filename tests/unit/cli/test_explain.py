"""The value of --target where names of classes are ambiguous; the printed deltas."""

import math
from types import SimpleNamespace

import pytest
import torch

from captum_iscam.cli.explain import TargetChoice, _deltas
from captum_iscam.networks.predictions import predict

OUTPUTS = torch.tensor([1.0, 3.0, 2.0, 2.5, 1.5])


def chosen(wanted, classes):
    choice = TargetChoice(wanted, classes)
    return [target.index for target in choice.of(predict(OUTPUTS, None))], choice.note


@pytest.mark.parametrize(
    ("wanted", "classes", "indices"),
    [
        ("crane", ["crane", "owl", "crane", "ox", "cow"], "0, 2"),
        ("CRANE", ["Crane", "owl", "crane ", "ox", "cow"], "0, 2"),
        ("crane", ["owl", "crane", "ox", "crane", "crane"], "1, 3, 4"),
    ],
)
def test_a_name_of_several_classes_is_refused_with_their_indices(
    wanted, classes, indices
):
    with pytest.raises(ValueError, match=f"the name of the indices {indices}. Pass"):
        TargetChoice(wanted, classes)


def test_a_name_in_its_own_letter_case_is_one_class():
    classes = ["Crane", "crane", "CRANE", "ox", "cow"]

    assert chosen("crane", classes) == ([1], "")
    with pytest.raises(ValueError, match="indices 0, 1, 2"):
        TargetChoice("cRane", classes)


def test_a_number_is_an_index_and_the_class_of_that_name_is_said():
    classes = ["4", "3", "2", "1", "7"]

    assert chosen("2", classes) == ([2], "")
    assert chosen("4", classes) == (
        [4],
        "--target 4 is an index. The class named '4' has the index 0.",
    )
    with pytest.raises(ValueError, match=r"4, got 7\. The class of that name has"):
        TargetChoice("7", classes)
    with pytest.raises(ValueError, match=r"got 9\. The model knows 5 classes"):
        TargetChoice("9", classes)


def test_a_count_is_said_where_a_class_has_that_name():
    indices, note = chosen("top2", ["a", "b", "Top2", "d", "top2"])

    assert indices == [1, 3]
    assert note == (
        "--target top2 is the 2 most probable classes. The class named 'top2' has the "
        "index 4."
    )


def test_the_largest_known_delta_stands_beside_those_that_are_unknown():
    def explained(method, target, delta):
        return SimpleNamespace(method=method, target=target, delta=delta)

    found = [
        *(explained("is-cam", t, d) for t, d in enumerate((0.02, math.inf, 2.65))),
        *(explained("ss-cam", t, math.inf) for t in range(2)),
        *(explained("score-cam", t, 0.0) for t in range(2)),
    ]

    assert list(_deltas(found)) == [
        "IS-CAM largest delta 265 % (unknown for 1 of them)",
        "SS-CAM largest delta unknown",
    ]
