"""What the pass of the inputs tells of them and of the score, by every method."""

import pytest
import torch
from reference.every_call import ALL, explain
from reference.networks import ConvNet, images
from torch import nn

from captum_iscam import RISE, LayerScoreCAM
from captum_iscam.metrics import insertion

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero", "ignore:The score of example", "ignore:The noise"
)
TWICE = "as those of a sigmoid do"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_of_another_type_than_the_model_are_named(name, kind):
    net = ConvNet().float().eval()

    with pytest.raises(ValueError, match=r"type of the model's parameters, torch\.flo"):
        explain(name, net, net.features, images(1).to(kind), 0)


def with_sigmoid(outputs):
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    head = nn.Linear(6 * 49, outputs)
    return nn.Sequential(features, nn.Flatten(), head, nn.Sigmoid()).eval()


@pytest.mark.parametrize("outputs", [1, 3, 5])
@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
def test_a_model_that_ends_in_a_sigmoid_has_it_already(outputs, score):
    if outputs == 1 and score == "softmax":
        pytest.skip("an error of its own")
    model, x = with_sigmoid(outputs), torch.rand(2, 3, 16, 16)

    with pytest.warns(UserWarning, match=TWICE):
        LayerScoreCAM(model, model[0], score=score).attribute(x, target=0)
    with pytest.warns(UserWarning, match=TWICE):
        RISE(model, score=score).attribute(x, target=0, n_masks=3)
    with pytest.warns(UserWarning, match=TWICE):
        insertion(model, x, torch.rand(2, 1, 7, 7), 0, score=score)


def test_a_sigmoid_that_is_no_output_is_none():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(3, 6, 3, stride=2)
            self.head = nn.Linear(6 * 49, 3)
            self.gate = nn.Sigmoid()

        def forward(self, x):
            maps = self.features(x)
            return self.head((maps * self.gate(maps)).flatten(1)) * 9 - 3

    torch.manual_seed(0)
    model = Gated().eval()

    # No warning, which would be an error here.
    LayerScoreCAM(model, model.features).attribute(torch.rand(2, 3, 16, 16), target=0)
