"""timm's networks, by the names that timm has for architecture and weights."""

from __future__ import annotations

import difflib
from math import floor
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from captum_iscam.networks.extras import import_extra
from captum_iscam.networks.parts import Parts, Request, about_weights
from captum_iscam.networks.preprocessing import Preprocessing, unless_other
from captum_iscam.networks.weights import find_file, fit_model, read_state


def load(request: Request) -> Parts:
    """Returns a network of timm."""
    timm = import_extra("timm", "timm", request.name)
    _check_name(timm, request)
    # A transformer has its positions for one size of the input.
    configuration = timm.models.get_pretrained_cfg(request.inside)
    fixed = configuration is not None and configuration.fixed_input_size
    options = {"img_size": request.size} if fixed and request.size else {}

    def build(count: int | None) -> nn.Module:
        more = {} if count is None else {"num_classes": count}
        model: nn.Module = timm.create_model(request.inside, **options, **more)
        return model

    file: Path | None = None
    if request.is_default:
        model = _with_own_weights(timm, request, options)
    else:
        file = find_file(request.weights)
        model = fit_model(request.name, read_state(file), file, build)
    name, digest = about_weights(model, file, request.inside)
    return Parts(
        model,
        _preprocessing(timm, model, request.name),
        _class_names(timm, model),
        name,
        digest,
        f"timm {timm.__version__}",
    )


def _check_name(timm: ModuleType, request: Request) -> None:
    architecture, _, tag = request.inside.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)
        close = f"Close to it: {', '.join(near)}. " if near else ""
        raise ValueError(
            f"model must be a model of timm, got {request.name!r}. {close}"
            f'timm.list_models("*{architecture[:6]}*") lists some, timm.list_models() '
            "all."
        )
    known = timm.list_pretrained(architecture)
    if tag and request.inside not in known:
        near = difflib.get_close_matches(request.inside, known, n=5, cutoff=0)
        close = ", ".join(near) or "none"
        raise ValueError(
            f"model must have weights of that name in timm, got {request.name!r}. "
            f'Close to it: {close}. timm.list_pretrained("{architecture}") lists all.'
        )


def _with_own_weights(
    timm: ModuleType, request: Request, options: dict[str, Any]
) -> nn.Module:
    if not timm.list_pretrained(request.inside.partition(".")[0]):
        raise ValueError(
            f"weights must be a file for a model without weights in timm, got none for "
            f"{request.name}. Pass weights, a file with a state dict."
        )
    try:
        # timm reads them from safetensors, or with weights_only.
        model: nn.Module = timm.create_model(request.inside, pretrained=True, **options)
    # What a file that is something else makes it raise is not documented.
    except Exception as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise ValueError(
            f"weights must be downloadable or in the cache, got {request.name} "
            f"({said}). Fetch them elsewhere and pass the file as weights."
        ) from error
    return model


def _preprocessing(timm: ModuleType, model: nn.Module, name: str) -> Any:
    settings = timm.data.resolve_model_data_config(model)
    height, width = settings["input_size"][1:]
    scaled = [floor(side / settings["crop_pct"]) for side in (height, width)]
    described = None
    if height == width and settings["crop_mode"] in ("center", "squash"):
        whole = (scaled[0], scaled[1])
        described = Preprocessing(
            whole if settings["crop_mode"] == "squash" else scaled[0],
            height,
            tuple(settings["mean"]),
            tuple(settings["std"]),
            settings["interpolation"],
        )
    return unless_other(described, timm.data.create_transform(**settings), name)


def _class_names(timm: ModuleType, model: Any) -> tuple[str, ...] | None:
    named = model.pretrained_cfg.get("label_names")
    if named:
        return tuple(named)
    subset = timm.data.infer_imagenet_subset(model)
    if subset is None:
        return None
    known = timm.data.ImageNetInfo(subset)
    return tuple(
        known.index_to_description(index) for index in range(known.num_classes())
    )
