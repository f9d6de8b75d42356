"""Networks whose right place is known: the score of a class is the amount of a colour.

Every convolution hands the colours on, so the layer has them where the image has them.
"""

import torch
from PIL import Image
from torch import nn

RED, GREEN, BLUE = range(3)


def hand_colours_on(model):
    """Returns the model with weights that make the colours its first three scores."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()
            if isinstance(module, nn.Linear):
                nn.init.eye_(module.weight).mul_(0.1)
                module.bias.zero_()
    return model.eval()


class Colours(nn.Module):
    """Mean colours of fields of 16 x 16 pixels, and of the whole image."""

    def __init__(self, classes=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 3, 1), nn.ReLU(), nn.MaxPool2d(16), nn.Conv2d(3, 3, 1)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(3, classes)
        hand_colours_on(self)

    def forward(self, x):
        return self.fc(self.pool(self.features(x)).flatten(1))


def two_squares():
    """Red at the top left and green at the bottom right, on black."""
    image = Image.new("RGB", (256, 256))
    image.paste((255, 0, 0), (32, 32, 96, 96))
    image.paste((0, 255, 0), (160, 160, 224, 224))
    return image


def quadrant(maps):
    """Returns where a map `(h, w)` has most of its sum: row and column, 0 or 1."""
    maps = torch.as_tensor(maps).float()
    h, w = (side // 2 for side in maps.shape)
    parts = [maps[:h, :w], maps[:h, -w:], maps[-h:, :w], maps[-h:, -w:]]
    return divmod(int(torch.stack([p.sum() for p in parts]).argmax()), 2)
