"""torchvision's classification networks, with the weights and all that goes with them.

Importing this module imports torchvision, so nothing on the way from
`import captum_iscam` does.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torchvision.models import get_model, get_model_weights, list_models

from captum_iscam._utils.files import read_tensors
from captum_iscam._utils.files import sha256 as sha256  # a public name of this module

# What their builders need in addition: both warn without a chosen initialisation,
# and with torchvision's own weights both undo the usual normalisation, which no
# weights file records.
_BUILD: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False, "transform_input": True},
    "inception_v3": {"init_weights": False, "transform_input": True},
}
_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class Network:
    """A classifier and what is needed to classify an image with it.

    Attributes:
        name (str): Name of the architecture.
        model (torch.nn.Module): In evaluation mode; gives one logit per class.
        transform (Callable): Turns an RGB image (PIL) into its input `(3, H, W)`.
        preprocessing (dict): The same in words: sizes, mean and std.
        classes (tuple[str, ...]): Name of each class, "class 7" where none is known.
        weights (str): Which weights: torchvision's name for them, or the file.
        sha256 (str): Digest of the file the weights came from.

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


def load_classifier(
    name: str, weights: str | Path = "DEFAULT", device: torch.device | str = "cpu"
) -> Network:
    """Returns a torchvision classifier, ready to be explained.

    torchvision's own weights bring their transform and class names. A file gets the
    sizes that torchvision evaluates the model with (for most, the shorter side becomes
    256 and the centre 224), ImageNet's mean and deviation, and ImageNet's class names
    if it has 1000 classes; any other number of classes is read from the file.

    Args:
        name (str): Name of the architecture, such as "resnet50"; :func:`model_names`
            lists all.
        weights (str or Path, optional): "DEFAULT" or another name of torchvision's
            weights for the model, downloaded once and kept; or a file with a state
            dict, as `torch.save(model.state_dict(), file)` writes it. It is read with
            `weights_only=True`, so it cannot run code. Default: "DEFAULT"
        device (torch.device or str, optional): Device that the model is moved to.
            Default: "cpu"

    Returns:
        *Network*: The model in evaluation mode on the device, and its preprocessing.

    Raises:
        ValueError: If the name is unknown, the file is no state dict of the model, or
            the weights cannot be downloaded.
        FileNotFoundError: If the file is missing; the message lists what is there.

    Examples::

        >>> import tempfile
        >>> trained = get_model("squeezenet1_1", weights=None, num_classes=5)
        >>> with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        ...     torch.save(trained.state_dict(), file.name)
        ...     network = load_classifier("squeezenet1_1", file.name)
        >>> network.classes
        ('class 0', 'class 1', 'class 2', 'class 3', 'class 4')
        >>> network.preprocessing["crop"]
        224
    """
    known = model_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5)
        close = f"Close to it: {', '.join(near)}. " if near else ""
        raise ValueError(
            f"model must be a classification model of torchvision, got {name!r}. "
            f"{close}Known are: {', '.join(known)}."
        )
    choices = get_model_weights(name)
    if str(weights) in ("DEFAULT", *choices.__members__):
        return _from_torchvision(name, choices[str(weights)], device)
    return _from_file(name, Path(weights), choices, device)


def _from_torchvision(name: str, chosen: Any, device: torch.device | str) -> Network:
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
    return _network(
        name, model, chosen, chosen.meta["categories"], chosen.name, file, device
    )


def _from_file(
    name: str, file: Path, choices: Iterable[Any], device: torch.device | str
) -> Network:
    if not file.is_file():
        raise FileNotFoundError(
            f"weights must be DEFAULT or an existing file, got {str(file)!r}. "
            f"{_what_exists(file)}"
        )
    state = _read_state(file)
    model, count = _fit_model(name, state, file)
    # The sizes of the first recipe; newer weights were evaluated at others. A model
    # without that recipe takes the smaller size, for which it is built by default.
    options = {weights.name: weights for weights in choices}
    usual = options.get("IMAGENET1K_V1") or min(
        options.values(), key=lambda weights: weights.transforms().crop_size
    )
    names = usual.meta["categories"]
    if len(names) != count:
        names = [f"class {index}" for index in range(count)]
    return _network(name, model, usual, names, file.name, file, device)


def _network(
    name: str,
    model: nn.Module,
    chosen: Any,
    classes: Iterable[str],
    weights: str,
    file: Path,
    device: torch.device | str,
) -> Network:
    transform = chosen.transforms()
    preprocessing = {
        "resize": transform.resize_size[0],
        "crop": transform.crop_size[0],
        "mean": transform.mean,
        "std": transform.std,
    }
    return Network(
        name,
        model.eval().to(device),
        transform,
        preprocessing,
        tuple(classes),
        weights,
        sha256(file),
    )


def _what_exists(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"There is no folder {str(folder)!r} either."
    names = sorted(p.name for p in folder.iterdir() if p.suffix in _SUFFIXES)
    if not names:
        return f"No {' or '.join(_SUFFIXES)} file is in {str(folder)!r}."
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"In {str(folder)!r} are: {', '.join(names[:20])}{more}."


def _read_state(file: Path) -> dict[str, Tensor]:
    """Returns the state dict in a file, out of what training scripts put around it."""
    state = read_tensors(
        file, "weights", "Write it with torch.save(model.state_dict(), file)."
    )
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise ValueError(
            f"weights must be a state dict, got {type(state).__name__} in "
            f"{str(file)!r}. Write it with torch.save(model.state_dict(), file)."
        )
    # A model saved inside DataParallel. In place, since the dict carries versions.
    consume_prefix_in_state_dict_if_present(state, "module.")
    return state


def _fit_model(
    name: str, state: dict[str, Tensor], file: Path
) -> tuple[nn.Module, int]:
    """Returns the model with these weights, and its number of classes."""
    options = dict(_BUILD.get(name, {}))
    if options:
        options["aux_logits"] = any(key.lower().startswith("aux") for key in state)
    model = get_model(name, weights=None, **options)
    # The last parameter is the one that makes the classes, in every model there.
    last, expected = list(model.state_dict().items())[-1]
    count = len(state[last]) if last in state and state[last].dim() else len(expected)
    if count != len(expected):
        model = get_model(name, weights=None, num_classes=count, **options)
    try:
        model.load_state_dict(state)  # casts half precision
    except (RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(
            f"weights must fit {name}, got {str(file)!r}. Name the model they were "
            f"saved from, or pass weights of {name}. PyTorch says: {detail[:400]}"
        ) from error
    return model, count
