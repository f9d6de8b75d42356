"""Targets beyond classification: each on models small enough to check by hand."""

import pytest
import torch
from reference.networks import ConvNet, Segmenter, images
from torch import nn

from captum_iscam import (
    RISE,
    LayerAblationCAM,
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerReciproCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerXGradCAM,
)
from captum_iscam.targets import (
    ModelScore,
    detection,
    multi_label,
    regression,
    segmentation,
    similarity,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
METHODS = [
    LayerScoreCAM,
    LayerIntegratedScoreCAM,
    LayerSmoothedScoreCAM,
    LayerIntegratedGradCAM,
    LayerGradCAMPlusPlus,
    LayerCAM,
    LayerHiResCAM,
    LayerXGradCAM,
    LayerAblationCAM,
    LayerReciproCAM,
]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)


@pytest.fixture
def net():
    return ConvNet().double()


def explain(method, forward_func, layer, x, additional=None):
    own = {"n_samples": 2} if method is LayerSmoothedScoreCAM else {}
    if own:
        own["generator"] = torch.Generator().manual_seed(7)
    return method(forward_func, layer, score="identity").attribute(
        x, additional_forward_args=additional, relu_attributions=False, **own
    )


def check(forward_func, layer, x, additional=None):
    """Every method gives a map that is finite and says something."""
    for method in METHODS:
        out = explain(method, forward_func, layer, x, additional)
        assert torch.isfinite(out).all()
        assert (out.flatten(1).amax(1) > out.flatten(1).amin(1)).all(), method
    out = RISE(forward_func, score="identity").attribute(
        x, additional_forward_args=additional, n_masks=10, grid=3
    )
    assert out.shape == (len(x), 1, *x.shape[2:])


def test_segmentation_sums_the_class_over_the_region():
    model, x = Segmenter().double(), images()
    region = torch.zeros(6, 7, dtype=torch.bool)
    region[1:3, 2:6] = True

    scores = segmentation(model, 3, region)(x)

    probabilities = model(x)["out"].softmax(1)
    torch.testing.assert_close(scores, probabilities[:, 3, 1:3, 2:6].sum((1, 2)))
    raw = segmentation(model, 3, region, score="identity")(x)
    torch.testing.assert_close(raw, model(x)["out"][:, 3, 1:3, 2:6].sum((1, 2)))


def test_a_region_with_a_row_of_its_own_serves_all_examples():
    model, x = Segmenter().double(), images(3)
    region = model(x[:1])["out"].argmax(1) == 3

    scores = segmentation(model, 3, region)(x)

    torch.testing.assert_close(scores, segmentation(model, 3, region[0])(x))


def test_segmentation_through_every_method():
    model = Segmenter().double()
    region = torch.zeros(6, 7, dtype=torch.bool)
    region[1:3, 2:6] = True

    check(segmentation(model, 3, region), model.features, images())


def test_regions_follow_their_examples():
    model, x = Segmenter().double(), images()
    regions = torch.zeros(2, 6, 7, dtype=torch.bool)
    regions[0, :2], regions[1, 3:] = True, True

    together = explain(
        LayerScoreCAM, segmentation(model, 3), model.features, x, (regions,)
    )

    for n in range(2):
        one = segmentation(model, 3, regions[n])
        alone = explain(LayerScoreCAM, one, model.features, x[n : n + 1])
        torch.testing.assert_close(together[n : n + 1], alone)
    check(segmentation(model, 3), model.features, x, (regions,))


def test_segmentation_of_a_tensor_and_another_key():
    x = images()
    region = torch.ones(6, 7, dtype=torch.bool)
    model = Segmenter().double()

    plain = segmentation(lambda z: model(z)["out"], 0, region)(x)
    named = segmentation(lambda z: {"logits": model(z)["out"]}, 0, region, key="logits")

    torch.testing.assert_close(plain, named(x))


def test_a_softmax_of_one_class_is_no_score_of_a_segmentation():
    model, x = torch.nn.Conv2d(3, 1, 1).eval(), torch.rand(2, 3, 4, 4)
    region = torch.ones(4, 4, dtype=torch.bool)

    with pytest.raises(ValueError, match='score must not be "softmax" for fewer'):
        segmentation(model, 0, region)(x)
    assert segmentation(model, 0, region, score="sigmoid")(x).max() < 16


def test_what_segmentation_refuses():
    model, x = Segmenter().double(), images()
    empty, whole = torch.zeros(6, 7) > 0, torch.ones(6, 7) > 0

    with pytest.raises(ValueError, match=r"at least one pixel, got none of \(6, 7\)"):
        segmentation(model, 3, empty)
    with pytest.raises(ValueError, match="region must hold at least one pixel"):
        segmentation(model, 3)(x, empty)
    with pytest.raises(ValueError, match="for every example, got none for example 1"):
        segmentation(model, 3)(x, torch.stack([whole, empty]))
    with pytest.raises(TypeError, match=r"boolean tensor, got torch\.float32.*argmax"):
        segmentation(model, 3, torch.ones(6, 7))
    with pytest.raises(TypeError, match=r"boolean tensor.*as additional_forward"):
        segmentation(model, 3)(x)
    with pytest.raises(ValueError, match=r"the size \(6, 7\) of the output, got \(7"):
        segmentation(model, 3, whole.T)(x)
    with pytest.raises(ValueError, match=r"got \(2, 6, 7\).*as additional_forward"):
        segmentation(model, 3, torch.stack([whole, whole]))(x)
    with pytest.raises(ValueError, match=r"\(2, 6, 7\) of the output, a row per"):
        segmentation(model, 3)(x, whole)
    with pytest.raises(ValueError, match=r"category must be a class .* got 5 for"):
        segmentation(model, 5, whole)(x)
    with pytest.raises(TypeError, match='holds one as "mask", got dict'):
        segmentation(model, 3, whole, key="mask")(x)
    with pytest.raises(ValueError, match="score must be one of"):
        segmentation(model, 3, whole, score="logits")


class Detector(nn.Module):
    """Answers as torchvision's detectors do; each box has the mean of its pixels."""

    def __init__(self, boxes, labels):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.boxes, self.labels = torch.tensor(boxes), torch.tensor(labels)
        self.eval()

    def forward(self, pictures):
        maps = self.features(torch.stack(pictures)).mean(1)
        rows = []
        for one in maps:
            scores = torch.stack(
                [one[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in self.boxes.tolist()]
            ).sigmoid()
            rows.append(
                {"boxes": self.boxes.float(), "labels": self.labels, "scores": scores}
            )
        return rows


BOXES = [[1, 1, 7, 6], [2, 1, 8, 6], [9, 4, 13, 10]]


@pytest.fixture
def detector():
    return Detector(BOXES, [5, 6, 5]).double()


@pytest.mark.parametrize(
    ("box", "label", "index"),
    [
        ((1, 1, 7, 6), None, 0),
        ((2, 1, 8, 6), None, 1),
        ((2, 1, 8, 6), 5, 0),
        (torch.tensor([9.0, 4.0, 13.0, 9.0]), 5, 2),
    ],
)
def test_detection_is_the_score_of_the_box_that_overlaps_most(
    detector, box, label, index
):
    x = images(1)

    score = detection(detector, x, box, label)

    expected = [row["scores"][index] for row in detector(list(images(3)))]
    torch.testing.assert_close(score(images(3)), torch.stack(expected))


def test_a_box_that_is_not_found_has_the_score_zero_and_gradients(detector):
    x = images(1)
    score = detection(detector, x, BOXES[2])
    detector.boxes = detector.boxes[:2]
    detector.labels = detector.labels[:2]
    leaf = x.clone().requires_grad_()

    out = score(leaf)
    out.sum().backward()

    assert out.tolist() == [0]
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))


def test_a_box_of_another_class_or_of_little_overlap_does_not_count(detector):
    x = images(1)
    score = detection(detector, x, BOXES[0], 5, min_overlap=0.7)
    detector.boxes = torch.tensor([[1, 1, 7, 6], [2, 1, 8, 6]])
    detector.labels = torch.tensor([6, 5])

    # The overlap of the second is 25 / 35.
    assert score(x) == detector(list(x))[0]["scores"][1]
    detector.boxes = torch.tensor([[1, 1, 7, 6], [3, 1, 9, 6]])
    assert score(x) == 0


def test_what_is_found_again_is_the_models_box_not_the_callers(detector):
    x = images(1)
    detector.boxes, detector.labels = torch.tensor([[2, 1, 8, 6]]), torch.tensor([5])
    score = detection(detector, x, (1, 1, 7, 6))

    # It overlaps the model's box by a half, the caller's by a third.
    detector.boxes = torch.tensor([[4, 1, 10, 6]])

    assert score(x) == detector(list(x))[0]["scores"][0]


def test_detection_through_every_method(detector):
    x = images(1)

    check(detection(detector, x, BOXES[0]), detector.features, x)


def test_what_detection_refuses(detector):
    x = images(1)

    match = r"by at least 0.5, got \[0.0, 8.0, 3.0, 10.0\]. Nearest are: \[.* label 5"
    with pytest.raises(ValueError, match=match):
        detection(detector, x, (0, 8, 3, 10))
    with pytest.raises(ValueError, match="overlap a box of the label 7 that the model"):
        detection(detector, x, BOXES[0], 7)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    nothing["scores"] = torch.zeros(0)
    with pytest.raises(ValueError, match="the model finds nothing"):
        detection(lambda _: [nothing], x, BOXES[0])
    with pytest.raises(ValueError, match="box must be corners"):
        detection(detector, x, (5, 5, 2, 9))
    with pytest.raises(ValueError, match="box must be corners"):
        detection(detector, x, (0, 0, float("nan"), 9))
    with pytest.raises(ValueError, match="min_overlap must be above 0"):
        detection(detector, x, BOXES[0], min_overlap=0)
    with pytest.raises(ValueError, match="inputs must be one image"):
        detection(detector, images(2), BOXES[0])
    with pytest.raises(TypeError, match="a dictionary with boxes, labels and scores"):
        detection(lambda pictures: torch.stack(pictures), x, BOXES[0])


@pytest.mark.parametrize("name", ["retinanet", "fasterrcnn"])
def test_torchvisions_detectors(name):
    from torchvision.models.detection import FasterRCNN, RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU())
    backbone.out_channels = 8
    own = {"min_size": 48, "max_size": 64, "num_classes": 3}
    anchors = AnchorGenerator(((16, 24),), ((0.5, 1.0),))
    if name == "retinanet":
        # All of its few boxes stay, so that every output holds the one asked for.
        model = RetinaNet(
            backbone,
            anchor_generator=anchors,
            score_thresh=0.0,
            nms_thresh=1.0,
            detections_per_img=2000,
            topk_candidates=2000,
            **own,
        )
        for parameter in model.head.classification_head.parameters():
            if parameter.dim() > 1:  # torchvision's are too small to say anything
                nn.init.kaiming_normal_(parameter)
    else:
        model = FasterRCNN(
            backbone,
            rpn_anchor_generator=anchors,
            box_score_thresh=0.0,
            rpn_post_nms_top_n_test=20,
            **own,
        )
    model.eval()
    x = torch.rand(1, 3, 48, 64)
    found = model(list(x))[0]

    score = detection(model, x, found["boxes"][0].detach())

    torch.testing.assert_close(score(x)[0], found["scores"][0])
    for method in METHODS:
        out = explain(method, score, backbone, x)
        assert out.shape[:2] == (1, 1)
        assert torch.isfinite(out).all()
        assert out.max() > out.min()


@pytest.mark.parametrize("labels", [2, [2], [0, 3]])
def test_multi_label_is_the_mean_probability(net, labels):
    x = images()

    scores = multi_label(net, labels)(x)

    wanted = [labels] if isinstance(labels, int) else labels
    torch.testing.assert_close(scores, net(x)[:, wanted].sigmoid().mean(1))
    check(multi_label(net, labels), net.features, x)


@every_method
def test_one_label_is_the_score_sigmoid(net, method):
    x = images()
    own = {"n_samples": 2, "stdevs": 0.0} if method is LayerSmoothedScoreCAM else {}

    plain = method(net, net.features, score="sigmoid").attribute(x, target=2, **own)

    out = method(multi_label(net, 2), net.features, score="identity").attribute(
        x, **own
    )
    torch.testing.assert_close(out, plain)


def test_regression(net):
    x = images()

    torch.testing.assert_close(regression(net, 3)(x), net(x)[:, 3])
    torch.testing.assert_close(regression(lambda z: net(z)[:, 3])(x), net(x)[:, 3])
    near = regression(net, 3, toward=0.25)(x)
    torch.testing.assert_close(near, -(net(x)[:, 3] - 0.25).abs())
    check(regression(net, 3), net.features, x)
    check(regression(net, 3, toward=0.25), net.features, x)


@pytest.mark.parametrize("flat", [True, False])
def test_similarity_is_the_cosine(net, flat):
    x = images()
    reference = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)

    scores = similarity(net, reference if flat else reference[None])(x)

    expected = (net(x) @ reference) / (net(x).norm(dim=1) * reference.norm())
    torch.testing.assert_close(scores, expected)
    check(similarity(net, reference), net.features, x)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_similarity_does_not_depend_on_scale(scale):
    rows = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    reference = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
    expected = similarity(lambda z: z, reference)(rows)

    torch.testing.assert_close(
        similarity(lambda z: z, scale * reference)(rows), expected
    )
    torch.testing.assert_close(
        similarity(lambda z: z, reference)(scale * rows), expected
    )
    graded = (scale * rows).requires_grad_()
    similarity(lambda z: z, reference)(graded).sum().backward()
    assert graded.grad.isfinite().all()


def test_an_embedding_is_most_like_itself(net):
    x = images(1)

    assert similarity(net, net(x))(x).item() == pytest.approx(1)
    assert similarity(lambda z: 0 * net(z), net(x))(x).item() == 0


@pytest.mark.parametrize("name", ["index", "toward"])
@pytest.mark.parametrize("value", [True, "2", float("nan"), [1.0, 2.0]])
def test_what_regression_refuses(net, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got .*Pass"):
        regression(net, **{name: value})
    with pytest.raises(ValueError, match="index must be an integer, got None"):
        regression(net, None)


def test_what_the_vectors_refuse(net):
    x = images()

    with pytest.raises(ValueError, match="labels must be indices"):
        multi_label(net, [])
    with pytest.raises(ValueError, match=r"labels must be from 0 to 4 .* got 5 for"):
        multi_label(net, [0, 5])(x)
    with pytest.raises(ValueError, match=r"index must be from 0 to 4 .* got -1"):
        regression(net, -1)(x)
    with pytest.raises(ValueError, match="reference must be finite and not zero"):
        similarity(net, torch.zeros(5))
    with pytest.raises(
        ValueError, match=r"reference must have 5 numbers .* got \(4,\)"
    ):
        similarity(net, torch.ones(4))(x)
    with pytest.raises(TypeError, match="reference must be a tensor, got list"):
        similarity(net, [1.0, 2.0])
    with pytest.raises(TypeError, match="model must return a tensor with a row"):
        multi_label(lambda z: {"out": net(z)}, 0)(x)
    with pytest.raises(TypeError, match="model must be a callable, got str"):
        regression("resnet18")


@every_method
def test_compiled_and_parallel_models(net, method):
    x = images()
    expected = explain(method, regression(net, 3), net.features, x)

    compiled = torch.compile(net, backend="eager")
    out = explain(method, regression(compiled, 3), net.features, x)
    torch.testing.assert_close(out, expected)
    parallel = nn.DataParallel(net)
    out = explain(method, regression(parallel, 3), net.features, x)
    torch.testing.assert_close(out, expected)


def test_the_devices_of_a_parallel_model_are_known(net):
    net.device_ids = [0, 1]

    assert regression(net, 3).device_ids == [0, 1]
    assert regression(lambda x: net(x), 3).device_ids is None


def test_half_precision_scores_are_single(net):
    x = images().bfloat16()

    assert regression(net.bfloat16(), 3)(x).dtype == torch.float32


def test_training_mode_is_noticed(net):
    with pytest.warns(UserWarning, match=r"training mode.*model\.eval\(\)"):
        ModelScore(net.train(), lambda output: output[:, 0])
