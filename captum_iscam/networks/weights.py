"""Weights from a file: what training scripts write around a state dict, and the fit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.files import kind_in_place_of_file, read_tensors
from captum_iscam._utils.warn import warn_user

DEFAULT = "DEFAULT"
"""The weights that the library, or the function, has for the model."""

_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
# The entries under which training scripts save a state dict.
_ENTRIES = ("state_dict", "model_state_dict", "model", "net", "weights")
_REPAIR = "Write it with torch.save(model.state_dict(), file)."


def find_file(weights: str | Path) -> Path:
    """Returns the file of weights.

    Raises:
        FileNotFoundError: If it is missing; the message lists what is there.
    """
    file = Path(weights)
    if not os.path.isfile(file):  # unlike that of Path, it raises for no name
        raise FileNotFoundError(
            f"weights must be {DEFAULT} or an existing file, got {str(file)!r}"
            f"{kind_in_place_of_file(file)}. {_what_exists(file)}"
        )
    return file


def _what_exists(file: Path) -> str:
    folder = file.parent
    if not os.path.isdir(folder):
        return f"There is no folder {str(folder)!r} either."
    files = (p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    names = sorted(p.name for p in files)
    if not names:
        suffixes = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
        return f"No {suffixes} file is in {str(folder)!r}."
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"In {str(folder)!r} are: {', '.join(names[:20])}{more}."


def read_state(file: Path) -> dict[str, Tensor]:
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
        what, repair = type(found).__name__, _REPAIR
        if isinstance(found, dict):
            what += f" with the entries {first([repr(key) for key in found])}"
            if any("_packed_params" in str(key) for key in found):
                what = "that of a quantised model"
                repair = "Save the state dict of the model before it is quantised."
        raise ValueError(
            f"weights must be a state dict, got {what} in {str(file)!r}. {repair}"
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


def bare(state: dict[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
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


def fit_model(
    name: str,
    state: dict[str, Tensor],
    file: Path,
    build: Callable[[int | None], nn.Module],
) -> nn.Module:
    """Returns the model with these weights.

    Args:
        name (str): Name of the model, for the message.
        state (dict): The weights.
        file (Path): Where they are from, for the message.
        build (Callable): Returns the model with a number of classes, or its own for
            None.

    Raises:
        ValueError: If they do not fit.
    """
    model = build(None)
    own = model.state_dict()
    state = bare(state, own)
    require_dense_weights(state, own, file)
    count = count_classes(state, own)
    if count != len(list(own.values())[-1]):
        model = build(count)
    try:
        require_numbers(state, model.state_dict())
        model.load_state_dict(state)  # casts half precision
    except (RuntimeError, ValueError) as error:
        detail = _differences(model, state) or " ".join(str(error).split())[:400]
        raise misfit(name, file, detail) from error
    return model


def misfit(name: str, file: Path, detail: str) -> ValueError:
    """Returns the error to raise for weights of another model."""
    return ValueError(
        f"weights must fit {name}, got {str(file)!r}. Name the model they were saved "
        f"from, or pass weights of {name}; for a model with changed layers, name the "
        f"function that makes it, FILE.py:function. {detail}"
    )


def count_classes(state: dict[str, Tensor], own: dict[str, Tensor]) -> int:
    """Returns the number of classes in a state dict, that of the model if unknown."""
    # The last parameter is the one that makes the classes, in every model there.
    last, expected = list(own.items())[-1]
    if last in state and state[last].dim():
        return len(state[last])
    return len(expected)


def digest_of(model: nn.Module) -> str:
    """Returns the SHA-256 of a model's weights and buffers, where no file is known."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        # Quantised models have tuples of weights and types among them.
        for part in value if isinstance(value, tuple) else (value,):
            if not isinstance(part, Tensor):
                digest.update(f"{name} {part} ".encode())
                continue
            digest.update(f"{name} {part.dtype} {tuple(part.shape)} ".encode())
            dense = part.dequantize() if part.is_quantized else part
            flat = dense.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def require_dense_weights(
    state: dict[str, Tensor], own: dict[str, Tensor], file: Path
) -> None:
    """Raises for sparse, nested or quantised entries where the model has none.

    Args:
        state (dict): By the names that the model has.
        own (dict): The model's.
        file (Path): Where they are from, for the message.
    """
    for key, given in state.items():
        like = own.get(key)
        kind, repair = str(given.layout), "value.to_dense()"
        if given.is_nested:
            kind, repair = "a nested tensor", "a tensor of one shape"
        elif given.is_quantized:
            if like is not None and like.is_quantized:
                continue
            kind, repair = str(given.dtype), "value.dequantize()"
        elif given.layout == (torch.strided if like is None else like.layout):
            continue
        raise ValueError(
            f"weights must be dense tensors, got {kind} for {first([key])} in "
            f"{str(file)!r}. Save {repair} in its place."
        )


def require_numbers(state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raises for entries that torch would copy, though they are other numbers."""
    for key, like in own.items():
        given = state.get(key, like)
        if given.is_meta or given.is_floating_point() != like.is_floating_point():
            kind = "no numbers" if given.is_meta else f"{given.dtype}"
            raise ValueError(f"{key} has {kind} instead of {like.dtype}.")


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
    return " ".join(f"{what}: {first(keys)}." for what, keys in found.items() if keys)


def first(names: list[str]) -> str:
    """Returns the first three names, as text that can be printed."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    shown = (name[:100] for name in names[:3])
    return ", ".join(n if n.isprintable() else ascii(n) for n in shown) + more
