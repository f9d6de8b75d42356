"""Layers that give maps and something else next to them."""

import re
from collections import namedtuple
from importlib.metadata import version

import pytest
import torch
from reference.every_call import LAYERED, explain
from reference.networks import images
from torch import nn

from captum_iscam import LayerCAM, LayerScoreCAM

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
GRADIENT = [n for n in LAYERED if "grad" in n or n in ("layer-cam", "hires-cam")]
Gated = namedtuple("Gated", ["maps", "loss"])
NEXT_TO_MAPS = {
    "loss": lambda maps: (maps, maps.square().mean()),
    "loss first": lambda maps: (maps.square().mean(), maps),
    "loss in a list": lambda maps: [maps, maps.square().mean()],
    "named": lambda maps: Gated(maps, maps.mean()),
    "loss of each": lambda maps: (maps, maps.mean((1, 2, 3))),
    "two losses": lambda maps: (maps, maps.mean(), maps.amax()),
    "integers": lambda maps: (maps, torch.tensor(3)),
    "none": lambda maps: (maps, None),
    "number": lambda maps: (maps, 0.5),
    "dictionary": lambda maps: {"maps": maps, "loss": maps.mean()},
}
VECTORS = {
    "vector": lambda maps: (maps, maps.mean((2, 3))),
    "vector first": lambda maps: (maps.mean((2, 3)), maps),
}
CAPTUM_TAKES_LISTS = not version("captum").startswith("0.8.")
REPAIR = r"torch\.nn\.Identity and explain that"


class Experts(nn.Module):
    """A layer that gives more than maps, and the identity that an error names."""

    def __init__(self, give):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Module()
        self.layer.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.layer.forward = lambda x: give(self.layer.conv(x).relu())
        self.maps = nn.Identity()
        self.head = nn.Linear(6, 5)
        self.double().eval()

    def forward(self, x):
        given = self.layer(x)
        given = given.values() if isinstance(given, dict) else given
        (maps,) = (v for v in given if isinstance(v, torch.Tensor) and v.dim() == 4)
        return self.head(self.maps(maps).mean((2, 3)))


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("kind", NEXT_TO_MAPS)
def test_what_is_no_row_per_example_next_to_maps_names_the_identity(name, kind):
    model, x = Experts(NEXT_TO_MAPS[kind]), images(2)

    with pytest.raises(TypeError, match=f"^layer must give a tensor or .*{REPAIR}"):
        explain(name, model, model.layer, x, 1)

    # The way that is named.
    assert explain(name, model, model.maps, x, 1).shape[:2] == (2, 1)


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_next_to_maps_name_the_identity(name, kind):
    model, x = Experts(VECTORS[kind]), images(2)
    match = f"^layer must give maps alone, got the shapes .*{REPAIR}"
    if name in GRADIENT:
        match = r"of whose 2 outputs one is no part of the target.*torch\.nn\.Identity"

    with pytest.raises((TypeError, ValueError), match=match):
        explain(name, model, model.layer, x, 1)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        tuple,
        pytest.param(
            list,
            marks=pytest.mark.skipif(
                not CAPTUM_TAKES_LISTS, reason="Captum 0.8 takes no lists of outputs"
            ),
        ),
    ],
)
def test_maps_next_to_maps_are_explained(count, make):
    model = Experts(lambda maps: make([maps] * count))
    model.head = nn.Linear(6, 5).double()
    model.forward = lambda x: model.head(sum(model.layer(x)).mean((2, 3)))

    for method in (LayerScoreCAM, LayerCAM):
        found = method(model, model.layer).attribute(images(2), target=1)
        maps = [found] if isinstance(found, torch.Tensor) else found
        assert [m.shape for m in maps] == [(2, 1, 5, 6)] * count


def test_outputs_that_are_no_part_of_the_target_are_counted():
    model = Experts(lambda maps: (maps, maps * 2))
    model.forward = lambda x: model.head(model.layer(x)[0].mean((2, 3)))

    with pytest.raises(ValueError, match=r"of whose 2 outputs one is no part") as error:
        LayerCAM(model, model.layer).attribute(images(1), target=1)

    assert re.search(r"or choose a score method", str(error.value))
    assert len(LayerScoreCAM(model, model.layer).attribute(images(1), 1)) == 2
