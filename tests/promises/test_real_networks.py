"""Real networks on real photographs, whose boxes say where the object is."""

import pytest
import torch
from reference import real
from reference.spies import Calls

from captum_iscam import (
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
)

pytestmark = real.needs_real_data


@pytest.fixture(scope="module")
def squeezenet():
    return real.network("squeezenet1_1")


@pytest.fixture(scope="module")
def photograph():
    row = real.rows(source_set="valsmall")[0]
    return *real.photograph(row), int(row["class_index"])


@pytest.fixture(scope="module")
def is_cam(squeezenet, photograph):
    image, _, target = photograph
    explain = LayerIntegratedScoreCAM(squeezenet, squeezenet.features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return explain.attribute(image, target)


def assert_on_the_object(attributions, inside):
    wide = LayerScoreCAM.interpolate(attributions, inside.shape, "bilinear")[0, 0]
    assert inside.flatten()[wide.argmax()]
    # The boxes cover about a third of the picture.
    assert wide[inside].sum() / wide.sum() > 1.5 * inside.float().mean()


@pytest.mark.slow
def test_is_cam_lies_on_the_object(is_cam, photograph):
    assert_on_the_object(is_cam, photograph[1])


@pytest.mark.slow
def test_integrated_grad_cam_lies_on_the_object(squeezenet, photograph):
    image, inside, target = photograph

    attributions = LayerIntegratedGradCAM(squeezenet, squeezenet.features).attribute(
        image, target=target
    )

    assert_on_the_object(attributions, inside)


@pytest.mark.slow
def test_three_points_come_close_to_the_integral(squeezenet, photograph, is_cam):
    image, _, target = photograph
    explain = LayerIntegratedScoreCAM(squeezenet, squeezenet.features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reference = explain.attribute(image, target, n_steps=5)
        score_cam = LayerScoreCAM(squeezenet, squeezenet.features).attribute(
            image, target
        )

    # 3.8 % here, rounding under autocast included.
    assert (is_cam - reference).norm() < 0.05 * reference.norm()
    # Score-CAM is another map, even at its best scale.
    scale = (score_cam * reference).sum() / (score_cam * score_cam).sum()
    assert (scale * score_cam - reference).norm() > 0.1 * reference.norm()


@pytest.mark.slow
def test_constant_channels_of_a_real_network_cost_nothing(squeezenet, photograph):
    image, _, target = photograph
    with torch.no_grad():
        maps = squeezenet.features(image)[0].flatten(1)
    varying = int((maps.amax(1) > maps.amin(1)).sum())
    model = Calls(squeezenet)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        LayerScoreCAM(model, squeezenet.features).attribute(image, target)

    assert varying < 0.95 * len(maps)
    assert abs(sum(model.rows) - 3 - varying) < 0.02 * len(maps)  # bfloat16 maps
