"""What the page computes: an uploaded file becomes classes and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captum_iscam._utils.images import UnreadableImageError, picture_in, read_image
from captum_iscam.benchmark.explained_models import (
    ExplainedModel,
    load_explained_model,
)
from captum_iscam.cli import record
from captum_iscam.cli.explain import check_score
from captum_iscam.cli.record import Explanation, Target
from captum_iscam.cli.results import Explained, Look, as_image, as_npz, as_panels
from captum_iscam.layers import find_layer, spatial_layers
from captum_iscam.methods import Options
from captum_iscam.networks.predictions import predict

MEGAPIXELS = 50
"""How large an image may be. Its pixels take three bytes each, several times over."""


@dataclass(frozen=True)
class ServedNetwork:
    """A network that the page offers.

    Attributes:
        explained (ExplainedModel): The network and the layer that is chosen first.
        layers (list[str]): Names of all layers that can be chosen.
        device (torch.device): Where the network is.
        score (str or None): The score of an output, as `Options` has it.
    """

    explained: ExplainedModel
    layers: list[str]
    device: torch.device
    score: str | None

    def read(self, file: str) -> Tensor:
        """Returns the network's input `(1, C, H, W)` of an image file.

        Raises:
            UnreadableImageError: If it is no image, or too large.
        """
        image = self.explained.network.transform(_read(Path(file)))
        return image.unsqueeze(0).to(self.device)

    def classify(self, inputs: Tensor) -> list[Target]:
        """Returns every class, the most probable first."""
        network = self.explained.network
        with torch.no_grad():
            scores, ranked = predict(network.model(inputs)[0], self.score)
        return [
            Target(index, network.classes[index], float(scores[index]))
            for index in ranked
        ]


@dataclass(frozen=True)
class Result:
    """The maps of one image, and what is needed to draw them."""

    name: str  # of the image's file, without a suffix
    served: ServedNetwork
    layer: str
    image: Image.Image  # as the network sees it
    target: Target
    explanations: list[Explanation]

    def as_png(self, opacity: float) -> bytes:
        """Returns the picture that `captum-iscam explain` writes, at this opacity."""
        look = Look(alpha=opacity)
        return as_panels(self.image, self.explanations, self.served.score, look)

    def as_npz(self) -> bytes:
        """Returns the maps at the layer's size, as `captum-iscam explain` does."""
        return as_npz(self.explanations)


def serve_network(
    name: str,
    device: torch.device,
    score: str | None = None,
    **options: Any,
) -> ServedNetwork:
    """Returns a network with what the page offers of it.

    Args:
        name (str): A name that `load_explained_model` takes.
        device (torch.device): Its device.
        score (str, optional): The score of an output. Default: None, softmax
        **options: Further arguments of `load_explained_model`.
    """
    explained = load_explained_model(name, device=device, **options)
    check_score(score, explained.network)
    example = explained.network.example().to(device)
    layers = spatial_layers(explained.network.model, example)
    return ServedNetwork(explained, layers, device, score)


def explain(
    served: ServedNetwork,
    file: str,
    layer: str,
    index: int | None,
    methods: Sequence[str],
) -> Result:
    """Returns the maps of an image file.

    Args:
        served (ServedNetwork): The network.
        file (str): The image.
        layer (str): Name of the layer.
        index (int or None): The class; None is the most probable.
        methods (Sequence[str]): Names from `METHODS`.

    Raises:
        ValueError: If the file is no image, or a map cannot be made.
    """
    inputs = served.read(file)
    targets = served.classify(inputs)
    target = next((t for t in targets if t.index == index), targets[0])
    model = served.explained.network.model
    explanations = record.explain(
        model,
        find_layer(model, layer),
        inputs,
        [target],
        methods,
        Options(show_progress=True, score=served.score),
    )
    usual = served.explained.network.preprocessing
    image = as_image(Explained(inputs[0].cpu(), usual["mean"], usual["std"]))
    return Result(Path(file).stem, served, layer, image, target, explanations)


def _read(file: Path) -> Image.Image:
    try:
        with picture_in(file) as opened:
            width, height = opened.size
        if width * height > MEGAPIXELS * 1_000_000:
            raise UnreadableImageError(f"{width} x {height} pixels")
        return read_image(file)
    except UnreadableImageError as error:
        raise UnreadableImageError(
            f"image must be an image file of at most {MEGAPIXELS} megapixels, got "
            f"{file.name} ({error}). Choose another, or save it anew as JPEG or PNG."
        ) from error
