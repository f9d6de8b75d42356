"""All targets of an example for the passes of one: score methods and RISE."""

import pytest
import torch
from reference.methods import LAYER_MASK_METHODS, SCORE_METHODS, SHORTCUTS, attribute
from reference.networks import ConvNet, WideNet, images
from reference.spies import Calls, LiveBytes
from torch import nn

from captum_iscam import RISE, LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.metrics import average_drop

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:The noise",
    "ignore:Channels that support",
    "ignore:channel_softmax",
)
every_method = pytest.mark.parametrize(
    "name", [*SCORE_METHODS, *LAYER_MASK_METHODS, *SHORTCUTS, "rise"]
)
TARGETS = [[0, 3, 1], [4, 4, 2]]
EXACT = {"rtol": 0, "atol": 1e-12}


def explained(name, model, layer, x, target, **options):
    if name != "rise":
        options = {"relu_attributions": False, **options}
        return attribute(name, model, layer, x, target, **options)
    generator = torch.Generator().manual_seed(7)
    return RISE(model).attribute(
        x, target, n_masks=20, grid=3, generator=generator, **options
    )


@pytest.fixture
def net():
    return ConvNet().double()


@every_method
@pytest.mark.parametrize("kind", [list, torch.tensor], ids=["list", "tensor"])
@pytest.mark.parametrize("size", [None, 5])
def test_equal_to_a_call_for_each_with_the_passes_of_one(name, kind, size, net):
    x, targets = images(2), torch.tensor(TARGETS)
    options = {} if size is None else {"internal_batch_size": size}
    together, alone = Calls(net), Calls(net)

    found = explained(name, together, net.features, x, kind(TARGETS), **options)

    each = [
        explained(name, alone, net.features, x, targets[:, t], **options)
        for t in range(3)
    ]
    torch.testing.assert_close(found, torch.cat(each, 1), **EXACT)
    assert together.rows * 3 == alone.rows
    assert found.abs().amax() > 1e-4


@every_method
def test_one_row_stands_for_all_examples(name, net):
    x = images(2)

    found = explained(name, net, net.features, x, [[4, 0]])

    both = explained(name, net, net.features, x, [[4, 0], [4, 0]])
    assert torch.equal(found, both)


@every_method
@pytest.mark.parametrize("target", [[[2], [3]], torch.tensor([[2], [3]])], ids=str)
def test_a_column_is_one_target_each(name, target, net):
    x = images(2)

    found = explained(name, net, net.features, x, target)

    assert found.shape[1] == 1
    assert torch.equal(found, explained(name, net, net.features, x, [2, 3]))


@pytest.mark.parametrize(
    "name",
    ["score-cam screened", "is-cam", "is-cam screened", "ss-cam", "ss-cam screened"],
)
def test_deltas_are_those_of_a_call_for_each(name, net):
    x, options = images(2), {"return_convergence_delta": True}

    _, delta = explained(name, net, net.features, x, TARGETS, **options)

    each = [
        explained(name, net, net.features, x, [row[t] for row in TARGETS], **options)
        for t in range(3)
    ]
    assert delta.shape == (2, 3)
    torch.testing.assert_close(delta, torch.stack([d for _, d in each], 1), **EXACT)


def test_the_default_of_a_wide_layer():
    net, x = WideNet(150).double(), images(2)
    explain = LayerIntegratedScoreCAM(net, net.features)
    options = {"relu_attributions": False, "return_convergence_delta": True}

    found, delta = explain.attribute(x, [[0, 1, 2, 3]], **options)

    for t in range(4):
        alone, its_own = explain.attribute(x, t, **options)
        torch.testing.assert_close(found[:, t : t + 1], alone, **EXACT)
        torch.testing.assert_close(delta[:, t], its_own)


def test_lists_of_layers_and_channel_softmax(net):
    x = images(2)
    explain = LayerScoreCAM(net, [net.features, net.mix], score="identity")

    found = explain.attribute(x, TARGETS, channel_softmax=True)

    assert [len(maps[0]) for maps in found] == [3, 3]
    for t in range(3):
        alone = explain.attribute(x, [r[t] for r in TARGETS], channel_softmax=True)
        for several, one in zip(found, alone, strict=True):
            torch.testing.assert_close(several[:, t : t + 1], one, **EXACT)


def test_targets_cost_no_memory_but_their_scores():
    net, x, peaks = WideNet(150), images(1, dtype=torch.float32), []
    for targets in ([[1]], [[0, 1, 2, 3, 1]]):
        with LiveBytes() as live:
            LayerScoreCAM(net, net.features).attribute(
                x, targets, internal_batch_size=8
            )
        peaks.append(live.peak)

    # A score and an increase in confidence per channel, in a few copies, and the maps.
    assert peaks[1] - peaks[0] <= 4 * 4 * (5 * 150 + 2 * 5 * 42)


class Pixels(nn.Module):
    """A class for each pixel: an output of more than two dimensions."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.features = net.features
        self.eval()

    def forward(self, x):
        return self.net(x).unsqueeze(2).expand(-1, -1, 4)


@every_method
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([[0, 5]], "target must be an index from 0 to 4, got 5"),
        ([[0, -1]], "target must be an index from 0 to 4, got -1"),
        ([[]], "target must have as many classes for each example"),
        ([[0, 1], [2]], "target must have as many classes for each example"),
        (torch.zeros(2, 0, dtype=torch.long), "target must have one row per example"),
        ([[0], [1], [2]], "target must have one row per example and at least one"),
        ([[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]], r"one-hot rows of 5. Pass target.argmax"),
        (torch.eye(5).long()[:2], r"target must hold class indices, got one-hot rows"),
    ],
    ids=str,
)
def test_what_cannot_be_meant(name, target, message, net):
    with pytest.raises(ValueError, match=message):
        explained(name, net, net.features, images(2), target)


@every_method
def test_an_output_of_more_dimensions_has_no_several_targets(name, net):
    model = Pixels(net)

    with pytest.raises(ValueError, match=r"got several, 2 for each. Several targets"):
        explained(name, model, model.features, images(2), [[0, 1]])


@every_method
@pytest.mark.filterwarnings("ignore:The softmax goes over")
def test_tuples_stay_indices_of_the_output(name, net):
    model = Pixels(net)

    found = explained(name, model, model.features, images(2), [(0, 1), (3, 2)])

    assert found.shape[1] == 1


@pytest.mark.parametrize("target", [[[0.5]], [["a"]], [[True]]], ids=str)
def test_what_are_no_integers(target, net):
    with pytest.raises(TypeError, match="target must hold integers"):
        explained("score-cam", net, net.features, images(2), target)


def test_an_output_with_one_number_for_each_class_has_several(net):
    class Column(nn.Module):
        def forward(self, x):
            return net(x).unsqueeze(2)

    model, x = Column().eval(), images(2)

    found = explained("score-cam", model, net.features, x, TARGETS)

    expected = explained("score-cam", net, net.features, x, TARGETS)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("target", [torch.tensor([[1], [4]]), [[1], [4]]], ids=str)
def test_metrics_take_a_column_as_one_target_each(target, net):
    x = images(2)
    maps = explained("score-cam", net, net.features, x, target)

    found = average_drop(net, x, maps, target)

    assert torch.equal(found, average_drop(net, x, maps, [1, 4]))
