"""Image classifiers of Hugging Face, from its hub or from a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_modes_mapping

from captum_iscam.networks.extras import import_extra
from captum_iscam.networks.network import LogitsOnly
from captum_iscam.networks.parts import Parts, Request, about_weights
from captum_iscam.networks.preprocessing import Preprocessing, unless_other
from captum_iscam.networks.weights import (
    bare,
    count_classes,
    find_file,
    first,
    misfit,
    read_state,
    require_dense_weights,
    require_numbers,
)

_OF_THE_FILE = ("_name_or_path", "name_or_path", "transformers_version")
_MODES = {pil: mode.value for mode, pil in pil_modes_mapping.items()}


def load(request: Request) -> Parts:
    """Returns an image classifier of Hugging Face, whose output is the logits."""
    transformers = import_extra("transformers", "huggingface", request.name)
    _check_folder(request)
    file = None if request.is_default else find_file(request.weights)
    with _quiet(transformers):
        model = _model(transformers, request, file)
        own, processor = _preprocessing(transformers, request)
    name, digest = about_weights(model, file, request.inside)
    labels = model.config.id2label or {}  # null in the file of some models
    names = tuple(str(labels[index]) for index in range(len(labels)))
    invented = tuple(f"LABEL_{index}" for index in range(len(names)))
    return Parts(
        LogitsOnly(model.float()),
        own,
        None if names == invented else names,
        name,
        digest,
        f"transformers {transformers.__version__}, settings "
        f"{_digest(model.config.to_dict(), processor)}",
    )


def _digest(config: dict[str, Any], processor: dict[str, Any]) -> str:
    """Returns what tells settings apart that weights and preprocessing may not show."""
    # Where the model was, and which release wrote it, changes nothing.
    kept = {k: v for k, v in config.items() if k not in _OF_THE_FILE}
    text = json.dumps([kept, processor], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_folder(request: Request) -> None:
    folder = Path(request.inside)
    is_path = request.inside.startswith((".", "/", "~")) or "\\" in request.inside
    if is_path and not folder.is_dir():
        raise FileNotFoundError(
            f"model must be an existing folder, got {request.name!r}. Write one with "
            "model.save_pretrained(folder) and processor.save_pretrained(folder)."
        )


def _model(transformers: ModuleType, request: Request, file: Path | None) -> Any:
    auto = transformers.AutoModelForImageClassification
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    if file is None:
        with _one_line(request):
            model, found = auto.from_pretrained(
                request.inside, trust_remote_code=False, **options
            )
        lacking = _named(found, "missing_keys", "mismatched_keys")
        if lacking:
            raise ValueError(
                f"weights must be those of a trained classifier, got {request.name} "
                f"without {first(lacking)}. Name a model that was trained to classify."
            )
        return model
    state = read_state(file)
    with _one_line(request):
        config = transformers.AutoConfig.from_pretrained(
            request.inside, trust_remote_code=False
        )
        empty = auto.from_config(config)
    own = empty.state_dict()
    state = bare(state, own)
    require_dense_weights(state, own, file)
    try:
        require_numbers(state, own)
    except ValueError as error:
        raise misfit(request.name, file, str(error)) from error
    count = count_classes(state, own)
    if count != config.num_labels:
        config.num_labels = count
    # Not load_state_dict: files have the names of the release that wrote them.
    with _one_line(request):
        model, found = type(empty).from_pretrained(
            None, config=config, state_dict=state, **options
        )
    wrong = {
        "Missing": _named(found, "missing_keys"),
        "Unexpected": _named(found, "unexpected_keys"),
        "Of another shape": _named(found, "mismatched_keys"),
    }
    if any(wrong.values()):
        detail = " ".join(f"{k}: {first(v)}." for k, v in wrong.items() if v)
        raise misfit(request.name, file, detail)
    return model


def _named(found: dict[str, Any], *kinds: str) -> list[str]:
    """Returns names of weights that did not fit; some come with their shapes."""
    keys = [key for kind in kinds for key in found[kind]]
    return sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in keys)


@contextmanager
def _one_line(request: Request) -> Iterator[None]:
    """Turns what transformers raises into one line that says what to do."""
    try:
        yield
    # What a file that is something else makes it raise is not documented.
    except Exception as error:
        said = str(error).strip().split("\n")[0].rstrip(" .")
        raise ValueError(
            "model must be an image classifier of Hugging Face that transformers has "
            f"code for, got {request.name!r} ({said}). Check the name and the "
            "connection, or fetch it elsewhere and name its folder, hf:FOLDER."
        ) from error


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Silences reports of loading, since what they say is checked here."""
    logging = transformers.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


class _Processor:
    """An image processor as a transform; no closure, so that it can be pickled."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, image: Image.Image) -> Tensor:
        inputs: Tensor = self._processor(image, return_tensors="pt")["pixel_values"]
        return inputs[0]


def _preprocessing(
    transformers: ModuleType, request: Request
) -> tuple[Any, dict[str, Any]]:
    """Returns the preprocessing, and the settings of the processor it is from."""
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            request.inside, trust_remote_code=False
        )
    except (OSError, ValueError):
        return None, {}  # many a folder has the model alone
    settings = processor.to_dict()
    described = _described(settings)
    return unless_other(described, _Processor(processor), request.name), settings


def _described(settings: dict[str, Any]) -> Preprocessing | None:
    """Returns what the settings of an image processor say, as far as that is known."""
    resize, crop = _sizes(settings)
    if crop is None:
        return None
    channels = len(settings.get("image_mean") or (0, 0, 0))
    mean, std = [0.0] * channels, [1.0] * channels
    if settings.get("do_normalize"):
        mean, std = settings["image_mean"], settings["image_std"]
    power = 2 if settings.get("include_top") else 1  # EfficientNet's divides again
    # (scale * x - offset - mean) / std**power for a pixel x from 0 to 1
    scale = 255 * (settings["rescale_factor"] if settings.get("do_rescale") else 1)
    offset = 1 if settings.get("rescale_offset") else 0
    return Preprocessing(
        resize,
        crop,
        tuple((offset + m) / scale for m in mean),
        tuple(d**power / scale for d in std),
        _MODES.get(int(settings.get("resample") or 0), "bilinear"),
    )


def _sizes(settings: dict[str, Any]) -> tuple[Any, Any]:
    """Returns what the image is resized to and what is cropped, None if unknown."""
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    edge, ratio = size.get("shortest_edge"), settings.get("crop_pct")
    resize: Any = (size.get("height"), size.get("width")) if "height" in size else edge
    if not settings.get("do_resize"):
        resize = None
    elif edge and ratio:  # ConvNeXt's way
        resize = floor(edge / ratio) if edge < 384 else (edge, edge)
        return resize, edge
    if settings.get("do_center_crop"):
        height, width = crop.get("height"), crop.get("width")
        return resize, height if height == width else (height, width)
    if isinstance(resize, tuple):
        return resize, resize[0] if resize[0] == resize[1] else resize
    return None, None
