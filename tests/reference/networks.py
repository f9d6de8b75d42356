"""Small networks with what trips implementations: padding, stride, batch norm, and
channels that are constant or dead."""

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SIZES = {1: (19,), 2: (11, 14), 3: (7, 9, 8)}
CONSTANT, DEAD = 1, 3


class ConvNet(nn.Module):
    """`features` is a strided, padded convolution with batch norm and ReLU.

    Of its six channels number 1 is constant above zero and number 3 is dead.
    """

    def __init__(self, spatial=2, classes=5, inplace=False):
        super().__init__()
        width = 6
        self.features = nn.Sequential(
            CONVOLUTION[spatial](3, width, 3, stride=2, padding=1),
            BATCH_NORM[spatial](width),
            nn.ReLU(inplace=inplace),
        )
        self.mix = CONVOLUTION[spatial](width, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        self._settle(width)

    def _settle(self, width):
        generator = torch.Generator().manual_seed(width)
        norm = self.features[1]
        with torch.no_grad():
            for parameter in self.parameters():
                fan_in = max(parameter[0].numel(), 4)
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1.5 * noise / fan_in**0.5)
            norm.running_mean.copy_(0.1 * torch.randn(width, generator=generator))
            norm.running_var.copy_(0.5 + torch.rand(width, generator=generator))
            norm.weight.copy_(1 + 0.2 * torch.randn(width, generator=generator))
            norm.bias.copy_(0.3 * torch.randn(width, generator=generator))
            self.features[0].weight[[CONSTANT, DEAD]] = 0
            norm.weight[[CONSTANT, DEAD]] = 0
            norm.bias[CONSTANT], norm.bias[DEAD] = 0.7, -1
        self.eval()

    def forward(self, x):
        hidden = torch.relu(self.mix(self.features(x)))
        return self.head(hidden.flatten(2).amax(2) + hidden.flatten(2).mean(2))


class WideNet(nn.Module):
    """Channels of very unequal weight, and scores that saturate."""

    def __init__(self, width=40):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU())
        self.mix = nn.Conv2d(width, 12, 3)
        self.head = nn.Linear(12, 4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.features[0].weight *= torch.linspace(0.2, 2, width).view(-1, 1, 1, 1)
            self.mix.weight /= 6
        self.eval()

    def forward(self, x):
        hidden = torch.tanh(self.mix(self.features(x)))
        return 3 * self.head(hidden.flatten(2).mean(2))


class TwoInputs(nn.Module):
    """An image, a second image of another size, a vector and a factor."""

    def __init__(self):
        super().__init__()
        self.net = ConvNet()
        self.features = self.net.features
        self.second = nn.Conv2d(3, 5, 3)
        self.vector = nn.Linear(4, 5)
        self.eval()

    def forward(self, image, other, vector, factor=1.0, scale=None):
        seen = self.second(other).flatten(2).mean(2) + self.vector(vector)
        out = factor * self.net(image) + seen
        return out if scale is None else out * scale.unsqueeze(1)


class MadeUp(nn.Module):
    """A layer of 4 to 64 channels, its input and a score, all drawn from a seed."""

    ACTIVATIONS = (torch.relu, torch.tanh, torch.sigmoid, F.gelu, nn.Identity())

    def __init__(self, seed):
        super().__init__()
        draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        width = round(math.exp(draw.uniform(math.log(4), math.log(64))))
        hidden = draw.choice([4, 8, 16])
        self.inner, self.outer = draw.choices(self.ACTIVATIONS, k=2)
        self.score = draw.choice(["softmax", "sigmoid", "identity"])
        self.gain = math.exp(draw.uniform(math.log(0.3), math.log(30)))
        self.stem = nn.Conv2d(3, width, 3, stride=draw.choice([1, 2]), padding=1)
        self.mix = nn.Conv2d(width, hidden, 3)
        self.head = nn.Linear(hidden, 4)
        self.features = nn.Identity()
        for parameter in self.parameters():
            fan_in = max(parameter[0].numel(), 4)
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = 1.5 * noise.double() / fan_in**0.5
        self.mix.weight.data *= math.exp(draw.uniform(-1, 1.5))
        x = torch.randn(1, 3, 10, 10, generator=generator).double()
        self.x = x * draw.choice([0.5, 1, 2])
        self.eval()

    def forward(self, x):
        hidden = self.outer(self.mix(self.features(self.inner(self.stem(x)))))
        return self.gain * self.head(hidden.flatten(2).mean(2))


class Segmenter(nn.Module):
    """Five classes at half of the input's size, in a mapping as torchvision's."""

    def __init__(self):
        super().__init__()
        self.features = ConvNet().features
        self.classes = nn.Conv2d(6, 5, 1)
        self.eval()

    def forward(self, x):
        return {"out": self.classes(self.features(x)), "aux": None}


class Detector(nn.Module):
    """Finds two boxes, each with a score of its own."""

    def __init__(self):
        super().__init__()
        self.features = ConvNet().features
        corners = torch.tensor([[1.0, 1, 7, 6], [4, 2, 9, 9]])
        self.register_buffer("boxes", corners)
        self.register_buffer("labels", torch.tensor([5, 6]))
        self.eval()

    def forward(self, inputs):
        scores = self.features(torch.stack(inputs)).mean((2, 3))[:, :2].sigmoid()
        fixed = {"boxes": self.boxes, "labels": self.labels}
        return [{**fixed, "scores": row} for row in scores]


def images(count=2, spatial=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, *SIZES[spatial])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
