"""Every method finds the objects of the bundled scenes, whose pixels are known."""

import pytest
import torch.nn.functional as F

from captum_iscam.demo import load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS, Options

OPTIONS = Options(n_samples=4, n_masks=400, stdevs=0.1)
MANY_PASSES = ("ss-cam", "rise", "integrated-gradients", "occlusion")
NAMED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in MANY_PASSES else [])
    for name, method in METHODS.items()
    if not method.control
]
# Poly-CAM's finer layers and the gradients of pixels follow edges, and RISE's few masks
# are coarse.
FEWER = dict.fromkeys(["poly-cam", "integrated-gradients", "rise"], 13)

# Of some objects other methods know more, and warn.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", NAMED)
def test_the_highest_place_of_a_map_is_on_its_object(name):
    network, hits, objects = load_network(), 0, 0
    for scene in load_scenes():
        inputs = preprocess(scene.image)
        maps = METHODS[name].attribute(
            network, network.features, inputs, [list(scene.labels)], OPTIONS
        )
        whole = F.interpolate(maps, inputs.shape[2:], mode="bilinear")[0]
        for one, mask in zip(whole, scene.masks, strict=True):
            hits += int(mask.flatten()[one.argmax()])
            objects += 1

    assert objects == 18
    assert hits >= FEWER.get(name, 16), hits
