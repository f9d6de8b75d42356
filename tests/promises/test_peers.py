"""Other people's libraries compared with ours, where the definitions coincide.

torch-cam 0.5.0 and grad-cam 1.5.7 scale a mask before, or upsample it with other
corners, so the layers here are as large as the input. Both take a softmax of logits
over the channels and min-max scale the map they return.
"""

import numpy as np
import pytest
import torch
from reference import real
from reference.networks import images
from torch import nn

from captum_iscam import LayerIntegratedScoreCAM, LayerReciproCAM, LayerScoreCAM
from captum_iscam.attr import _masking
from captum_iscam.attr._base import LayerScoreMethod
from captum_iscam.attr.smoothed_score_cam import NoisySamples

torchcam = pytest.importorskip("torchcam.methods")
pytest.importorskip("pytorch_grad_cam")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
)
CLOSE = {"rtol": 0, "atol": 1e-4}
TARGETS = [1, 3]


class SameSize(nn.Module):
    def __init__(self, strides=1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, stride=strides), nn.Softplus()
        )
        self.mix = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        # Logits that vary enough for the softmax over channels to tell them apart.
        return 1000 * self.head(self.mix(self.features(x)).relu().flatten(2).mean(2))


@pytest.fixture
def net():
    return SameSize().eval()


def scaled(maps):
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def torchcams(method, net, x, **options):
    with method(net, net.features, input_shape=tuple(x.shape[1:]), **options) as cam:
        net(x)
        return cam(TARGETS)[0].unsqueeze(1)


def grad_cams(net, x):
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with ScoreCAM(net, [net.features]) as cam:
        maps = cam(x, [ClassifierOutputTarget(target) for target in TARGETS])
    return torch.from_numpy(np.asarray(maps)).unsqueeze(1)


class Shown(LayerScoreMethod):
    """Ours, shown what another library shows the model."""

    def attribute(self, inputs, target, scheme):
        return self._attribute(
            inputs,
            target,
            None,
            False,
            True,
            baselines=None,
            channel_softmax=True,
            internal_batch_size=1000,
            show_progress=False,
            scheme=scheme,
        )


def ours(net, x):
    explain = LayerScoreCAM(net, net.features, score="identity")
    return scaled(explain.attribute(x, TARGETS, channel_softmax=True))


def test_score_cam_equals_torchcam(net):
    x = images(2, dtype=torch.float32)

    torch.testing.assert_close(
        ours(net, x), torchcams(torchcam.ScoreCAM, net, x), **CLOSE
    )


def test_score_cam_equals_grad_cam(net):
    x = images(2, dtype=torch.float32)

    torch.testing.assert_close(ours(net, x), grad_cams(net, x), **CLOSE)


def test_a_smaller_layer_shows_where_they_differ():
    net = SameSize(strides=3).eval()
    x = images(2, dtype=torch.float32)
    mine = ours(net, x)

    theirs = torchcams(torchcam.ScoreCAM, net, x)

    # torch-cam scales before it upsamples: close, but another mask.
    assert 1e-3 < (mine - theirs).abs().max() < 0.2


@pytest.mark.slow
@real.needs_real_data
def test_with_its_masks_the_map_of_a_real_network_is_torchcams(monkeypatch):
    net = real.network("squeezenet1_1")
    row = real.rows(source_set="valsmall")[0]
    x, target = real.photograph(row)[0], int(row["class_index"])
    with torchcam.ScoreCAM(net, net.features) as cam, torch.no_grad():
        theirs = cam(target, net(x))[0].unsqueeze(1)
    upsample, scale = _masking.upsample, _masking.scale
    monkeypatch.setattr(
        _masking, "upsample", lambda maps, size: upsample(scale(maps), size)
    )
    monkeypatch.setattr(_masking, "scale", lambda masks: masks)

    explain = LayerScoreCAM(net, net.features, score="identity")
    mine = scaled(explain.attribute(x, target, channel_softmax=True))

    assert (mine - theirs).norm() <= 1e-4 * theirs.norm()


def test_is_cam_of_torchcam_is_the_accumulated_variant(net):
    x = images(2, dtype=torch.float32)
    explain = LayerIntegratedScoreCAM(net, net.features, score="identity")

    mine = scaled(
        explain.attribute(x, TARGETS, method="accumulated", channel_softmax=True)
    )

    theirs = torchcams(torchcam.ISCAM, net, x, num_samples=10)
    torch.testing.assert_close(mine, theirs, **CLOSE)


def test_ss_cam_of_torchcam_is_noise_on_the_mask(net, monkeypatch):
    x = images(1, dtype=torch.float32)
    fields = []
    sample = torch.distributions.Normal.sample

    def recorded(self, shape):
        fields.append(sample(self, shape))
        return fields[-1]

    monkeypatch.setattr(torch.distributions.Normal, "sample", recorded)
    monkeypatch.setattr(f"{__name__}.TARGETS", [1])
    theirs = torchcams(torchcam.SSCAM, net, x, num_samples=5, std=2.0)

    class Recorded:
        """torch-cam's noise: a field of its own for every channel."""

        def __init__(self, masked):
            self.turn = -1

        def draw(self, inputs):
            self.turn += 1

        def field(self, position, shown, delta):
            return fields[self.turn][0].unsqueeze(1) * delta

    scheme = NoisySamples(5, Recorded, with_error=False)
    scheme._rounds = [(1.0,)] * 5
    mine = Shown(net, net.features, score="identity").attribute(x, [1], scheme)

    assert len(fields) == 5
    torch.testing.assert_close(scaled(mine), theirs, **CLOSE)


def test_recipro_cam_equals_openvino_xai():
    pytest.importorskip("openvino_xai")
    from openvino_xai.methods.white_box.torch import TorchReciproCAM

    class Net(SameSize):
        """The last module that is named features is the explained one there."""

        def forward(self, x):
            return super().forward(x) / 1000

    net, x = Net(strides=2).eval(), images(2, dtype=torch.float32)
    explain = LayerReciproCAM(net, net.features, score="identity")

    mine = explain.attribute(
        x,
        [[0, 1, 2, 3, 4]],
        window="single",
        normalize=False,
        relu_attributions=False,
    )

    theirs = TorchReciproCAM(
        net, target_layer="features", embed_scaling=False
    ).generate_saliency_map(x.numpy())
    torch.testing.assert_close(mine, torch.from_numpy(theirs))
