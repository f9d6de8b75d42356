"""torchvision's classification networks, with the weights and all that goes with them.

Importing this module imports torchvision, so nothing on the way from
`import captum_iscam` does.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from captum_iscam._utils.files import read_tensors, sha256
from captum_iscam.networks.parts import Parts, Request
from captum_iscam.networks.preprocessing import Preprocessing
from captum_iscam.networks.weights import DEFAULT, find_file, fit_model, read_state

_SOURCE = f"torchvision {torchvision.__version__}"

# What their builders need in addition: both warn without a chosen initialisation,
# and with torchvision's own weights both undo the usual normalisation, which no
# weights file records.
_BUILD: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False, "transform_input": True},
    "inception_v3": {"init_weights": False, "transform_input": True},
}


def model_names() -> list[str]:
    """Returns the names of torchvision's classification models.

    Returns:
        *list[str]*: The names, in alphabetical order.

    Examples::

        >>> "squeezenet1_1" in model_names()
        True
    """
    names: list[str] = list_models(module=torchvision.models)
    return names


def load(request: Request) -> Parts:
    """Returns a network of torchvision."""
    name = request.inside
    known = model_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5)
        close = f"Close to it: {', '.join(near)}. " if near else ""
        raise ValueError(
            f"model must be a classification model of torchvision, got {name!r}. "
            f"{close}captum_iscam.networks.model_names() lists all. Other networks are "
            "timm:NAME, hf:NAME or hf:FOLDER of Hugging Face, and FILE.py:function."
        )
    choices = get_model_weights(name)
    if str(request.weights) in (DEFAULT, *choices.__members__):
        return _with_own_weights(name, choices[str(request.weights)])
    return _with_file(name, find_file(request.weights), list(choices))


def _with_own_weights(name: str, chosen: Any) -> Parts:
    file = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rpartition("/")[2]
    shown = sys.stderr.isatty()
    try:
        if not file.is_file():
            chosen.get_state_dict(progress=shown, check_hash=True, weights_only=True)
        # torchvision would run what a tampered file holds, so it is read here before.
        read_tensors(file, "weights", "Delete it, and it is fetched again.")
        model = get_model(name, weights=chosen, progress=shown)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"weights must be downloadable or in the cache, got: {error}. Fetch "
            f"{chosen.url} elsewhere and pass the file as weights."
        ) from error
    return Parts(
        model,
        _preprocessing(chosen),
        tuple(chosen.meta["categories"]),
        chosen.name,
        sha256(file),
        _SOURCE,
    )


def _with_file(name: str, file: Path, choices: list[Any]) -> Parts:
    state = read_state(file)
    options = dict(_BUILD.get(name, {}))
    if options:
        options["aux_logits"] = any("aux" in key.lower() for key in state)

    def build(count: int | None) -> nn.Module:
        more = {} if count is None else {"num_classes": count}
        model: nn.Module = get_model(name, weights=None, **options, **more)
        return model

    model = fit_model(name, state, file, build)
    # The sizes of the first recipe; newer weights were evaluated at others. A model
    # without that recipe takes the smaller size, for which it is built by default.
    by_name = {weights.name: weights for weights in choices}
    usual = by_name.get("IMAGENET1K_V1") or min(
        choices, key=lambda weights: weights.transforms().crop_size
    )
    names = tuple(usual.meta["categories"])
    return Parts(model, _preprocessing(usual), names, file.name, sha256(file), _SOURCE)


def _preprocessing(chosen: Any) -> Preprocessing:
    transform = chosen.transforms()
    return Preprocessing(
        transform.resize_size[0],
        transform.crop_size[0],
        tuple(transform.mean),
        tuple(transform.std),
        transform.interpolation.value,
    )
