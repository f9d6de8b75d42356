"""Reads and preprocesses images for the networks, in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_pil_image

from captum_iscam._utils.images import UnreadableImageError
from captum_iscam._utils.user_code import user_code
from captum_iscam.benchmark.dataset import Item, Regions
from captum_iscam.benchmark.explained_models import ExplainedModel
from captum_iscam.benchmark.thumbnails import THUMBNAIL_SIZE, as_jpeg
from captum_iscam.networks.preprocessing import Preprocessing, resize_and_crop


@dataclass
class Preprocessed:
    """An image as one network sees it.

    Attributes:
        inputs (Tensor): `(1, C, H, W)`.
        masks (dict[int, Tensor]): The pixels of each class, `(1, 1, H, W)` of bool;
            without classes that lie outside of the crop.
        interventions (dict[int, Tensor]): The inputs without the object of each class,
            where that is known.
    """

    inputs: Tensor
    masks: dict[int, Tensor]
    interventions: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Loaded:
    """One image, read and preprocessed, or why it could not be.

    Attributes:
        index (int): Its index in the list of items.
        preprocessed (list[Preprocessed]): For each network, in order; none if it
            cannot be read.
        thumbnail (bytes): A small JPEG of the first network's crop.
        error (str or None): Why it cannot be read.
    """

    index: int
    preprocessed: list[Preprocessed] = field(default_factory=list)
    thumbnail: bytes = b""
    error: str | None = None


class _Images(Dataset[Loaded]):
    def __init__(
        self,
        items: Sequence[Item],
        indices: Sequence[int],
        models: Sequence[ExplainedModel],
    ) -> None:
        self._items, self._indices = items, indices
        # A worker needs only the preprocessing of the networks.
        self._transforms = [
            (s.network.transform, s.network.preprocessing) for s in models
        ]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> Loaded:
        index = self._indices[number]
        try:
            with user_code():
                image, regions = self._items[index].read()
                without = self._items[index].interventions()
            return self._preprocessed(index, image, regions, without)
        except UnreadableImageError as error:
            return Loaded(index, error=_line(error))
        except OSError:
            raise
        # A transform and a reader may be the user's code, which may raise anything.
        except Exception as error:  # noqa: BLE001 - recorded in the row
            return Loaded(index, error=f"{type(error).__name__}: {_line(error)}")

    def _preprocessed(
        self,
        index: int,
        image: Image.Image,
        regions: Regions,
        without: dict[int, Image.Image],
    ) -> Loaded:
        """Returns an image as each network sees it."""
        preprocessed: dict[object, Preprocessed] = {}
        for transform, words in self._transforms:
            key = _key(transform)
            if key not in preprocessed:
                with user_code():
                    inputs = transform(image).unsqueeze(0)
                    others = {
                        k: transform(other).unsqueeze(0) for k, other in without.items()
                    }
                preprocessed[key] = Preprocessed(
                    inputs, _cropped(regions, words), others
                )
        keys = [_key(transform) for transform, _ in self._transforms]
        crop = _crop(image, preprocessed[keys[0]].inputs[0], self._transforms[0][1])
        return Loaded(
            index,
            [preprocessed[key] for key in keys],
            as_jpeg(crop, THUMBNAIL_SIZE),
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or "unreadable"


def _key(transform: object) -> object:
    """Returns what is the same for transforms that do the same."""
    return transform if isinstance(transform, Preprocessing) else id(transform)


def load(
    items: Sequence[Item],
    indices: Sequence[int],
    models: Sequence[ExplainedModel],
    workers: int = 0,
) -> DataLoader[Loaded]:
    """Returns the images with these indices, in order, preprocessed for the networks.

    Args:
        items (Sequence[Item]): All images.
        indices (Sequence[int]): Which of them to load.
        models (Sequence[ExplainedModel]): The networks.
        workers (int, optional): Processes that read ahead; 0 reads in this process.
            Default: 0
    """
    images = _Images(items, indices, models)
    return DataLoader(images, batch_size=None, num_workers=workers)


def _crop(image: Image.Image, inputs: Tensor, words: dict[str, Any]) -> Image.Image:
    """Returns what the network is shown, with the lightest value white if need be."""
    if words["crop"] is not None:
        return resize_and_crop(image, words)
    values = inputs - inputs.min()
    shown: Image.Image = to_pil_image(values / values.max().clamp_min(1e-12))
    return shown


def _cropped(regions: Regions, words: dict[str, Any]) -> dict[int, Tensor]:
    """Returns the masks of the objects in the network's crop of the image."""
    found = {}
    for index, inside in regions.items():
        whole = torch.from_numpy(np.ascontiguousarray(inside)).byte()[None, None]
        # Nearest neighbours, by the centres of pixels, so that the mask stays binary.
        mask = resize_and_crop(whole, words, "nearest-exact").bool()
        if bool(mask.any().item()):
            found[index] = mask
    return found
