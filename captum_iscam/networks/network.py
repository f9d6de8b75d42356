"""A classifier and all that is needed to explain it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor, nn

from captum_iscam._utils.user_code import user_code


@dataclass(frozen=True)
class Network:
    """A classifier and what is needed to classify an image with it.

    Attributes:
        name (str): The name it was loaded by.
        model (torch.nn.Module): In evaluation mode; gives one logit per class.
        transform (Callable): Turns an RGB image (PIL) into its input `(3, H, W)`, or
            `(1, H, W)` for a network of grey images.
        preprocessing (dict): The same in words: "resize" (length of the shorter side,
            or height and width), "crop" (side of the centred square, or height and
            width), "mean", "std" and "interpolation". All are None for a transform that
            does not say what it does.
        classes (tuple[str, ...]): Name of each class, "class 7" where none is known.
        weights (str): Which weights: their name in the library, or the file.
        sha256 (str): Digest of the file the weights came from, or of the weights
            themselves where there is no single file.
        source (str, optional): Where the architecture comes from: a library with its
            version, or a file of code and those that it imports, with their digest.
            Default: "", not known

    Examples::

        >>> from torchvision.transforms.functional import to_tensor
        >>> network = Network("mine", nn.Identity(), to_tensor, {}, ("a", "b"), "", "")
        >>> network.classes[1]
        'b'
    """

    name: str
    model: nn.Module = field(repr=False)
    transform: Callable[[Any], Tensor]
    preprocessing: dict[str, Any]
    classes: tuple[str, ...] = field(repr=False)
    weights: str
    sha256: str
    source: str = ""

    def example(self) -> Tensor:
        """Returns an input, of a black image.

        Returns:
            *Tensor* `(1, C, H, W)` on the CPU, of the size that the model is shown.

        Examples::

            >>> from torchvision.transforms.functional import to_tensor
            >>> Network("m", nn.Identity(), to_tensor, {}, (), "", "").example().shape
            torch.Size([1, 3, 256, 256])
        """
        with user_code():
            return self.transform(Image.new("RGB", (256, 256))).unsqueeze(0)


class LogitsOnly(nn.Module):
    """A model that returns an object with logits, as one that returns the logits.

    Args:
        model (torch.nn.Module): Its output has an attribute `logits`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits `(N, classes)`."""
        logits: Tensor = self.model(images).logits
        return logits
