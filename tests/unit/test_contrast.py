"""Finer-CAM: on a model whose classes share one part of an object and differ in one."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from reference.networks import ConvNet, images
from torch import nn

from captum_iscam import (
    RISE,
    LayerGradCAMPlusPlus,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
)
from captum_iscam.targets import contrast, similar_classes

SIZES = {1: (8,), 2: (8, 4), 3: (8, 4, 4)}


class Birds(nn.Module):
    """Two birds with the same body and different wings, and a fish.

    Channel 0 of the input is where bodies are, 1 and 2 are the wings of either bird,
    3 are fins. The layer passes them on.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()
        parts = [[4.0, 1, 0, 0], [4.0, 0, 1, 0], [0, 0, 0, 1.0]]
        self.register_buffer("parts", torch.tensor(parts).double())
        self.eval()

    def forward(self, x):
        return self.features(x).flatten(2).mean(2) @ self.parts.T


def bird(spatial=2):
    """The first bird: its body in front, its wing behind."""
    x = torch.zeros(1, 4, *SIZES[spatial]).double()
    x[:, 0, :4], x[:, 1, 4:] = 1, 1
    return x


@pytest.fixture
def net():
    return ConvNet().double()


def by_hand(logits, references, strength):
    """The scores `(classes,)` of one example, one class and reference at a time."""
    scores = []
    for c in range(len(logits)):
        others = [d for d in references[c] if d != c]
        total = sum(float(logits[d]) for d in others)
        scores.append(float(logits[c]) - strength * total / len(others))
    return scores


@pytest.mark.parametrize("strength", [0, 0.6, 1.0])
def test_the_scores_are_those_of_the_equation(net, strength):
    x = images(3)
    logits = net(x).detach()
    table = similar_classes(logits, 2)

    found = contrast(net, strength=strength)(x, table)
    shared = contrast(net, [1, 4], strength)(x)
    of_rows = contrast(net, strength=strength)(
        x, torch.tensor([[1, 2], [0, 3], [4, 1]])
    )

    for n, rows in enumerate(logits):
        expected = by_hand(rows, table[n].tolist(), strength)
        assert found[n].tolist() == pytest.approx(expected)
        assert shared[n].tolist() == pytest.approx(
            by_hand(rows, [[1, 4]] * 5, strength)
        )
        own = [[[1, 2], [0, 3], [4, 1]][n]] * 5
        assert of_rows[n].tolist() == pytest.approx(by_hand(rows, own, strength))


def test_similar_classes_are_the_nearest_logits_of_others():
    logits = torch.tensor([[3.0, 0.0, 2.5, -1.0], [1.0, 1.0, 1.0, 9.0]])

    found = similar_classes(logits, 2)

    assert found[0].tolist() == [[2, 1], [3, 2], [0, 1], [1, 2]]
    assert found[1].tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_similar_classes_are_those_of_a_table_of_all_distances():
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))

    for count in (1, 3, 199):
        found = similar_classes(logits, count)
        for row, near in zip(logits, found, strict=True):
            distance = (row - row.unsqueeze(1)).abs().fill_diagonal_(torch.inf)
            assert near.equal(distance.argsort(1)[:, :count])


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_what_two_classes_share_is_not_in_the_map(spatial):
    model, x = Birds(), bird(spatial)
    table = similar_classes(model(x), 1)
    assert table[0, 0].tolist() == [1]
    finer = contrast(model)
    layer = model.features

    def maps(forward_func, *further):
        score = LayerScoreCAM(forward_func, layer, score="identity")
        grads = LayerGradCam(forward_func, layer)
        plus = LayerGradCAMPlusPlus(forward_func, layer)
        integrated = LayerIntegratedScoreCAM(forward_func, layer, score="identity")
        for method in (score, grads, plus, integrated):
            yield method.attribute(x, 0, *further)[0, 0]

    for plain in maps(model):
        assert plain[0].sum() > plain[-1].sum() > 0
    for found in maps(finer, table):
        assert found[0].abs().sum().item() == pytest.approx(0, abs=1e-9)
        assert found[-1].sum() > 0
    path = IntegratedGradients(finer).attribute(
        x, target=0, additional_forward_args=table, n_steps=3
    )
    assert path[:, 0].abs().sum().item() == pytest.approx(0, abs=1e-9)
    assert path[:, 1].sum().item() == pytest.approx(0.5)


def test_rise_and_occlusion_take_references():
    model, x = Birds(), bird()
    finer, table = contrast(model), similar_classes(model(bird()), 1)
    options = {"target": 0, "additional_forward_args": table}

    masks = {"n_masks": 400, "grid": 2, "generator": torch.Generator().manual_seed(0)}
    rise = RISE(finer, score="identity").attribute(x, **options, **masks)[0, 0]
    window = Occlusion(finer).attribute(x, sliding_window_shapes=(4, 1, 1), **options)

    assert rise[6:].mean() > rise[:2].mean()
    assert window[0, :, :4].abs().max() < 1e-9 < window[0, 0, 4:].min()


@pytest.mark.parametrize("method", [LayerScoreCAM, LayerGradCAMPlusPlus])
def test_references_follow_their_examples_and_targets(net, method):
    x, classes = images(3), [[0, 1], [4, 2], [3, 0]]
    table = similar_classes(net(x), 2)
    explain = method(contrast(net), net.features, score="identity")
    options = {"relu_attributions": False, "internal_batch_size": 2}

    together = explain.attribute(x, classes, table, **options)

    for n, t in [(0, 0), (0, 1), (1, 1), (2, 0)]:
        c = classes[n][t]
        one = contrast(net, table[n, c])
        alone = method(one, net.features, score="identity").attribute(
            x[n : n + 1], c, **options
        )
        torch.testing.assert_close(together[n, t], alone[0, 0])


def test_the_references_are_those_of_the_whole_input(net):
    x = images(1)
    table = similar_classes(net(x), 1)
    shown = []

    def model(z):
        shown.append(net(z))
        return shown[-1]

    finer = contrast(model)
    LayerScoreCAM(finer, net.features, score="identity").attribute(x, 2, table)

    masked = torch.cat(shown[2:])
    chosen = similar_classes(masked, 1)[:, 2]
    assert (chosen != table[0, 2]).any()
    torch.testing.assert_close(
        finer(x, table)[0, 2], net(x)[0, 2] - net(x)[0, table[0, 2, 0]]
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_reference_is_finer_cam_of_grad_cam():
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam import FinerCAM

    net, x = ConvNet(), images(2, dtype=torch.float32)
    net.features[0].stride = (1, 1)  # that library resizes maps to the input
    top = net(x).argmax(1)
    cam = FinerCAM(net, [net.features])

    theirs = cam(x, alpha=0.6, comparison_categories=[1])

    ours = LayerGradCam(contrast(net, strength=0.6), net.features).attribute(
        x, top, similar_classes(net(x), 1), relu_attributions=True
    )
    low, high = ours.amin((2, 3), keepdim=True), ours.amax((2, 3), keepdim=True)
    theirs = torch.from_numpy(np.asarray(theirs)).unsqueeze(1)
    torch.testing.assert_close((ours - low) / (high - low), theirs, rtol=0, atol=1e-4)


def test_a_class_that_is_its_own_reference(net):
    x = images(2)

    scores = contrast(net, 3)(x)

    assert scores[:, 3].isnan().all()
    others = [0, 1, 2, 4]
    torch.testing.assert_close(scores[:, others], net(x)[:, others] - net(x)[:, 3:4])
    grads = LayerGradCam(contrast(net, 3), net.features).attribute(x, 1)
    assert grads.isfinite().all()
    with pytest.raises(RuntimeError, match=r"got nan in .*reference must not be the"):
        LayerScoreCAM(contrast(net, 3), net.features, score="identity").attribute(x, 3)


def test_further_arguments_of_the_model_come_first():
    net, x = ConvNet(classes=3).double(), images(2)
    table = similar_classes(2 * net(x), 1)

    found = contrast(lambda z, factor: factor * net(z))(x, 2.0, table)

    torch.testing.assert_close(found, 2 * contrast(net)(x, table))


def test_references_of_any_integer_type_and_device_form(net):
    x = images(2)
    expected = contrast(net, [1, 4])(x)

    for reference in (
        (1, 4),
        torch.tensor([1, 4], dtype=torch.int32),
        np.array([1, 4]),
    ):
        torch.testing.assert_close(contrast(net, reference)(x), expected)
    rows = torch.tensor([[1, 4], [1, 4]], dtype=torch.int32)
    torch.testing.assert_close(contrast(net)(x, rows), expected)


def test_what_contrast_refuses(net):
    x = images(2)

    with pytest.raises(ValueError, match="strength must be a finite number of at"):
        contrast(net, 1, -0.5)
    with pytest.raises(ValueError, match="reference must name at least one class"):
        contrast(net, [])
    with pytest.raises(ValueError, match=r"reference must be classes \(k,\) for all"):
        contrast(net, torch.tensor([[1], [2]]))
    for wrong in ([0.5], "bird", [[1], [1, 2]], torch.tensor([True])):
        with pytest.raises(TypeError, match="reference must hold indices of classes"):
            contrast(net, wrong)
    with pytest.raises(TypeError, match=r"got torch\.float64.*as additional_forward"):
        contrast(net)(x)
    with pytest.raises(TypeError, match="indices of classes, got None"):
        contrast(net)(x, None)
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=rf"from 0 to 4, got {wrong}\. Count"):
            contrast(net, [1, wrong])(x)
    with pytest.raises(ValueError, match=r"\(2, k\) or \(2, 5, k\).* got \(3, 1\)"):
        contrast(net)(x, torch.tensor([[1], [2], [3]]))
    with pytest.raises(ValueError, match=r"model must return logits .* two classes"):
        contrast(lambda z: net(z)[:, 0], 0)(x)


def test_what_similar_classes_refuses():
    with pytest.raises(TypeError, match="got list"):
        similar_classes([1.0, 2.0])
    with pytest.raises(
        ValueError, match=r"more than 3 classes.* got the shape \(1, 3\)"
    ):
        similar_classes(torch.rand(1, 3))
    with pytest.raises(ValueError, match="count must be an integer of at least 1"):
        similar_classes(torch.rand(1, 3), 0)
    with pytest.raises(ValueError, match="logits must be finite"):
        similar_classes(torch.tensor([[torch.nan, 0.0]]), 1)
