"""The bundled network for the drawn scenes, and how images become its input."""

from importlib import resources

import torch
from torch import nn

from captum_iscam.demo.scenes import CLASSES

# Mid grey, not the scenes' exact mean, so that a normalised 0 is a colour one can name.
_MEAN = 0.5
_STD = 0.25

WEIGHTS = "scene_net.pt"

CELLS = 12
"""Height and width of the maps of `features` for a scene."""


def preprocess(images: torch.Tensor) -> torch.Tensor:
    """Normalise RGB pixels for the network: `(images - 0.5) / 0.25`.

    As with torchvision's networks the caller normalises. The input 0, Captum's default
    baseline, then is mid grey, in which the network sees no class: it was also trained
    on images faded to that grey.

    Args:
        images (Tensor): Pixels `(3, H, W)` or `(N, 3, H, W)` in [0, 1], floating point.

    Returns:
        *Tensor*: Network input `(N, 3, H, W)` in [-2, 2]; a single image has N = 1.

    Raises:
        TypeError: If `images` is not a floating point tensor.
        ValueError: If `images` has another shape.

    Examples::

        >>> inputs = preprocess(torch.ones(3, 96, 96))
        >>> inputs.unique(), inputs.shape
        (tensor([2.]), torch.Size([1, 3, 96, 96]))
    """
    if not images.is_floating_point():
        raise TypeError(
            f"images must be a floating point tensor, got {images.dtype}. "
            "Convert bytes with images.float() / 255 first."
        )
    if images.dim() not in (3, 4) or images.shape[-3] != 3:
        raise ValueError(
            "images must have the shape (3, H, W) or (N, 3, H, W), got "
            f"{tuple(images.shape)}. Put the colour channels before height and width."
        )
    batch = images if images.dim() == 4 else images.unsqueeze(0)
    return (batch - _MEAN) / _STD


def _block(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    ]


class SceneNet(nn.Module):
    """A small CNN for the drawn scenes.

    `features` ends in the layer to explain: maps of 12 x 12 for images of 96 x 96,
    never negative, each cell seeing at most 63 pixels across, so that a map can be as
    local as an object. `head` is linear over the maps' means.
    """

    def __init__(self) -> None:
        """Start from random weights; :func:`load_network` loads the trained ones."""
        super().__init__()
        self.features = nn.Sequential(
            *_block(3, 24, kernel=5, stride=2),
            *_block(24, 32),
            nn.MaxPool2d(2),
            *_block(32, 64),
            *_block(64, 64),
            nn.MaxPool2d(2),
            *_block(64, 96),
            *_block(96, 96),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        pooled: torch.Tensor = self.pool(self.features(images)).flatten(1)
        logits: torch.Tensor = self.head(pooled)
        return logits


def save_weights(network: nn.Module, path: str) -> None:
    """Write the weights in half precision, half the size of single precision."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    torch.save(state, path)


def load_network() -> SceneNet:
    """The bundled network in evaluation mode, float32, on the CPU.

    Returns:
        *SceneNet*: Maps the output of :func:`preprocess` to logits over
        :data:`captum_iscam.demo.CLASSES`; explain its layer `features`.

    Examples::

        >>> from captum_iscam.demo import draw_scene
        >>> scene = draw_scene(0, labels=[CLASSES.index("heart")])
        >>> logits = load_network()(preprocess(scene.image))
        >>> CLASSES[logits.argmax()]
        'heart'
    """
    network = SceneNet()
    source = resources.files("captum_iscam.demo") / "data" / WEIGHTS
    with resources.as_file(source) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    return network.float().eval()
