"""Finer-CAM by name: what it compares with, and what it costs."""

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from captum_iscam.attr.finer_cam import FinerCAM
from captum_iscam.targets import contrast, similar_classes

# Untrained, a class may have no support.
pytestmark = pytest.mark.filterwarnings("ignore:The map is zero everywhere")


def network(classes):
    torch.manual_seed(classes)
    features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
    return nn.Sequential(features, nn.Flatten(), nn.Linear(36, classes)).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("classes", "count"), [(2, 1), (3, 2), (6, 3)])
def test_it_compares_with_three_similar_classes_or_all(classes, count, images):
    model = network(classes)

    found = FinerCAM(model, model[0]).attribute(images, [0, 1])

    expected = LayerGradCam(contrast(model), model[0]).attribute(
        images,
        [0, 1],
        additional_forward_args=similar_classes(model(images), count),
        relu_attributions=True,
    )
    torch.testing.assert_close(found, expected.detach())
    assert found.amax() > 0


@pytest.mark.parametrize("target", [None, 0])
def test_with_one_output_there_is_nothing_to_compare(target, images):
    model = network(1)

    found = FinerCAM(model, model[0]).attribute(images, target)

    expected = LayerGradCam(model, model[0]).attribute(
        images, target, relu_attributions=True
    )
    torch.testing.assert_close(found, expected.detach())


def test_indices_of_further_dimensions_are_refused(images):
    features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
    model = nn.Sequential(features, nn.Conv2d(4, 5, 1)).eval()

    with pytest.raises(
        ValueError, match=r"\(N, classes\), got the shape \(2, 5, 3, 3\)"
    ):
        FinerCAM(model, features).attribute(images, (1, 0, 2))


def test_several_targets_share_the_forward_passes(images):
    model = network(6)
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))

    found = FinerCAM(model, model[0]).attribute(images[:1], torch.tensor([[0, 1]]))

    assert found.shape == (1, 2, 3, 3)
    # Those of Grad-CAM++, and one for the references.
    assert len(calls) == 3
