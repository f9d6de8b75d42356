"""torchvision's classification networks, with the weights and all that goes with them.

Importing this module imports torchvision, so nothing on the way from
`import captum_iscam` does.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from captum_iscam._utils.files import read_tensors
from captum_iscam._utils.files import sha256 as sha256  # a public name of this module
from captum_iscam._utils.warn import warn_user

# What their builders need in addition: both warn without a chosen initialisation,
# and with torchvision's own weights both undo the usual normalisation, which no
# weights file records.
_BUILD: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False, "transform_input": True},
    "inception_v3": {"init_weights": False, "transform_input": True},
}
_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
# The entries under which training scripts save a state dict.
_ENTRIES = ("state_dict", "model_state_dict", "model", "net", "weights")
_REPAIR = "Write it with torch.save(model.state_dict(), file)."


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
            dict, as `torch.save(model.state_dict(), file)` or safetensors writes it. It
            may be an entry of a checkpoint, and its names may share a prefix. It is
            read with `weights_only=True`, so it cannot run code. Default: "DEFAULT"
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
        suffixes = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
        return f"No {suffixes} file is in {str(folder)!r}."
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"In {str(folder)!r} are: {', '.join(names[:20])}{more}."


def _read_state(file: Path) -> dict[str, Tensor]:
    """Returns the state dict in a file, out of what training scripts put around it."""
    found = read_tensors(file, "weights", _REPAIR)
    states = _state_dicts(found)
    own = {name: state for name, state in states.items() if not _is_averaged(name)}
    averaged = [repr(name) for name in states if name not in own]
    if len(own) > 1:
        raise ValueError(
            f"weights must be one state dict, got several in {str(file)!r}: "
            f"{', '.join(map(repr, own))}. Save the one to use in a file of its own."
        )
    if not own and averaged:
        raise ValueError(
            f"weights must be those of the model, got averaged ones alone in "
            f"{str(file)!r}: {', '.join(averaged)}. To use them, save that entry in a "
            "file of its own."
        )
    if not own:
        what = type(found).__name__
        if isinstance(found, dict):
            what += f" with the entries {_first([repr(key) for key in found])}"
        raise ValueError(
            f"weights must be a state dict, got {what} in {str(file)!r}. {_REPAIR}"
        )
    ((name, state),) = own.items()
    if averaged:
        warn_user(
            f"{str(file)!r} has averaged weights as well ({', '.join(averaged)}), and "
            f"those in {name!r} are used. To use the averaged ones, save that entry in "
            "a file of its own."
        )
    return state


def _state_dicts(
    found: Any, name: str = "", depth: int = 0
) -> dict[str, dict[str, Tensor]]:
    """Returns every state dict in a checkpoint by the entries that lead to it."""
    # What is read may contain itself.
    if not isinstance(found, dict) or depth > 3:
        return {}
    if found and all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in found.items()
    ):
        return {name: found}
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in found.items():
        if isinstance(key, str) and (key in _ENTRIES or _is_averaged(key)):
            states |= _state_dicts(value, f"{name}.{key}".lstrip("."), depth + 1)
    return states


def _is_averaged(name: str) -> bool:
    """Whether a name such as "model_ema" is that of an exponential moving average."""
    return "ema" in name.lower().replace(".", "_").split("_")


def _bare(state: dict[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Returns a state dict by the names that the model has without its wrappers.

    torch.compile may wrap any module. Other wrappers, such as DataParallel and modules
    of Lightning, put a prefix before every name.

    Args:
        state (dict): By the names in the file; returned as it is if no prefix makes
            them names of the model.
        own (Collection[str]): The names that the model has.
    """
    # AveragedModel counts the models that it has averaged.
    inside = {key: value for key, value in state.items() if key != "n_averaged"}
    paths = [[p for p in key.split(".") if p != "_orig_mod"] for key in inside]
    parents = zip(*(path[:-1] for path in paths), strict=False)
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, parents)))
    for count in range(shared + 1):
        names = [".".join(path[count:]) for path in paths]
        if not set(names).isdisjoint(own) and len(set(names)) == len(names):
            bare = dict(zip(names, inside.values(), strict=True))
            # Only the dict that was saved has the versions of its modules.
            return state if bare.keys() == state.keys() else bare
    return state


def _fit_model(
    name: str, state: dict[str, Tensor], file: Path
) -> tuple[nn.Module, int]:
    """Returns the model with these weights, and its number of classes."""
    options = dict(_BUILD.get(name, {}))
    if options:
        options["aux_logits"] = any("aux" in key.lower() for key in state)
    model = get_model(name, weights=None, **options)
    own = model.state_dict()
    state = _bare(state, own)
    # The last parameter is the one that makes the classes, in every model there.
    last, expected = list(own.items())[-1]
    count = len(state[last]) if last in state and state[last].dim() else len(expected)
    if count != len(expected):
        model = get_model(name, weights=None, num_classes=count, **options)
    try:
        _require_numbers(model, state)
        model.load_state_dict(state)  # casts half precision
    except (RuntimeError, ValueError) as error:
        detail = _differences(model, state) or " ".join(str(error).split())[:400]
        raise ValueError(
            f"weights must fit {name}, got {str(file)!r}. Name the model they were "
            f"saved from, or pass weights of {name}. {detail}"
        ) from error
    return model, count


def _require_numbers(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raises for entries that torch would copy, though they are other numbers."""
    for key, own in model.state_dict().items():
        given = state.get(key, own)
        if given.is_meta or given.is_floating_point() != own.is_floating_point():
            kind = "no numbers" if given.is_meta else f"{given.dtype}"
            raise ValueError(f"{key} has {kind} instead of {own.dtype}.")


def _differences(model: nn.Module, state: dict[str, Tensor]) -> str:
    own = model.state_dict()
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    found = {
        # The counts of batches may be missing, as before PyTorch 0.4.1.
        "Missing": [k for k in own if k not in state and "num_batches" not in k],
        "Unexpected": [key for key in state if key not in own],
        "Of another shape": shapes,
    }
    return " ".join(f"{what}: {_first(keys)}." for what, keys in found.items() if keys)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    shown = (name[:100] for name in names[:3])
    return ", ".join(n if n.isprintable() else ascii(n) for n in shown) + more
