"""Which inputs the model is shown is fixed before the first masked pass."""

import pytest
import torch
from reference.methods import SCORE_METHODS, SHORTCUTS, attribute
from reference.networks import ConvNet, WideNet, images
from reference.spies import Calls

from captum_iscam import LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.attr import _base

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:The noise",
    "ignore:Channels that support",
)
every_method = pytest.mark.parametrize("name", [*SCORE_METHODS, *SHORTCUTS])


def shown(name, net, x, target, **options):
    """Every row that the model is shown, in its order."""
    model = Calls(net)
    attribute(name, model, net.features, x, target, **options)
    return torch.cat(model.shown)


@every_method
def test_scores_do_not_decide_what_is_shown(name):
    net, x = ConvNet().double(), images(2)

    first = shown(name, net, x, 1)

    for target, score in ((4, "softmax"), (0, "identity"), (2, lambda out: 0 * out)):
        constructor = {"score": score}
        other = shown(name, net, x, target, constructor=constructor)
        assert torch.equal(first, other)


def test_scores_do_not_decide_what_a_wide_layer_is_shown():
    net, x = WideNet(150).double(), images(2)

    first = shown("is-cam", net, x, 1)

    for target, score in ((3, "softmax"), (0, "identity")):
        other = shown("is-cam", net, x, target, constructor={"score": score})
        assert torch.equal(first, other)


@every_method
def test_the_progress_bar_knows_all_passes_before_the_first(name, monkeypatch):
    net, x, bars = ConvNet().double(), images(2), []
    model = Calls(net)

    class Bar(_base.tqdm):
        def __init__(self, **options):
            bars.append((options["total"], sum(model.rows)))
            super().__init__(**options)

    monkeypatch.setattr(_base, "tqdm", Bar)

    attribute(name, model, net.features, x, [1, 4])

    # The images and the baselines come first.
    assert bars == [(sum(model.rows) - 9, 9)]


@pytest.mark.parametrize("count", [1, 3, 16])
@pytest.mark.parametrize("size", [1, 7, 64, None])
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (LayerIntegratedScoreCAM, {}),
        (LayerScoreCAM, {"screening": 0.4}),
    ],
    ids=["is-cam", "score-cam screened"],
)
def test_a_map_does_not_depend_on_its_batch(cls, options, count, size):
    net, x = WideNet(150), images(16, dtype=torch.float32)
    alone = Calls(net)
    signed = {"relu_attributions": False, **options}
    expected = cls(alone, net.features).attribute(x[:1], 1, **signed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    place = int((order == 0).nonzero())
    model = Calls(net)

    found = cls(model, net.features).attribute(
        x[:count][order], 1, internal_batch_size=size, **signed
    )

    # Rounding of the scores and of what is predicted from them.
    scale = expected.abs().max()
    assert (found[place] - expected[0]).abs().max() <= 3e-6 * scale
    # Every input that is shown of the example alone is shown in the batch too, but for
    # the faint one, which is the first example's.
    theirs, ours = torch.cat(model.shown).flatten(1), torch.cat(alone.shown).flatten(1)
    ours = ours[(ours != x[:1].flatten(1) / 4).any(1)]
    nearest = torch.cdist(ours.double(), theirs.double()).amin(1)
    assert nearest.max() <= 1e-4 * ours.norm(dim=1).max()
    each = [Calls(net) for _ in range(count)]
    for one, calls in zip(x[:count], each, strict=True):
        cls(calls, net.features).attribute(one[None], 1, **signed)
    # Of a batch the first example alone is shown faint, among others and as two copies.
    faint = 1 if size == 1 else 1 + min(2, count)
    singly = sum(sum(calls.rows) - 2 for calls in each)
    assert sum(model.rows) == singly + faint
