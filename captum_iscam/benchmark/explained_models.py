"""The networks that are explained, each with its layer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_iscam._utils.files import sha256
from captum_iscam.demo import CLASSES, load_network
from captum_iscam.demo.network import WEIGHTS
from captum_iscam.demo.scenes import SIZE
from captum_iscam.layers import check_spatial, default_layer, find_layer
from captum_iscam.networks import Network, load_classifier
from captum_iscam.networks.preprocessing import Preprocessing

SCENE_NET = "scene-net"
"""Name of the bundled network."""


@dataclass(frozen=True)
class ExplainedModel:
    """A network and the layer that is explained."""

    network: Network
    layer_name: str
    layer: nn.Module

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return self.network.name


def load_explained_model(
    name: str,
    weights: str | Path = "DEFAULT",
    layer: str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> ExplainedModel:
    """Returns a network by name or by code, or the bundled one, with its layer.

    Args:
        name (str): A name that `load_classifier` takes, or "scene-net", the bundled
            network, which has its own weights.
        weights (str or Path, optional): "DEFAULT" or another name of the library's
            weights for the model, or a file with a state dict. Default: "DEFAULT"
        layer (str, optional): Name of the layer. Default: None, the last with a spatial
            output
        device (torch.device or str, optional): Its device. Default: "cpu"
        **options: `classes`, `size`, `mean` and `std` of `load_classifier`; the bundled
            network has its own.

    Raises:
        ValueError: If there is no such model or layer, or the weights do not fit.
        FileNotFoundError: If the file of weights is missing.

    Examples::

        >>> explained = load_explained_model("scene-net")
        >>> explained.layer_name, len(explained.network.classes)
        ('features', 10)
    """
    if name == SCENE_NET:
        given = [option for option, value in options.items() if value is not None]
        if given:
            raise ValueError(
                f"{given[0]} must not be given for {SCENE_NET}, which has its own, got "
                f"{options[given[0]]}. Omit it, or name other networks."
            )
        network = _scene_net(device)
    else:
        network = load_classifier(name, weights, device, **options)
    example = network.example().to(device)
    if layer is None:
        return ExplainedModel(network, *default_layer(network.model, example))
    module = find_layer(network.model, layer)
    check_spatial(network.model, example, layer)
    return ExplainedModel(network, layer, module)


def _scene_net(device: torch.device | str) -> Network:
    mean, std = (0.5,) * 3, (0.25,) * 3  # those of captum_iscam.demo.preprocess
    source = resources.files("captum_iscam.demo") / "data" / WEIGHTS
    with resources.as_file(source) as file:
        digest = sha256(file)
    transform = Preprocessing(SIZE, SIZE, mean, std)
    return Network(
        SCENE_NET,
        load_network().to(device),
        transform,
        transform.in_words(),
        CLASSES,
        WEIGHTS,
        digest,
        "captum_iscam",
    )
