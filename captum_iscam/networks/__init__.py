"""Classifiers by name or by code, with the weights and all that goes with them.

`load_classifier` asks one file of this folder: `torchvision`, `timm`, `hugging_face` or
`code`. Each returns the model with its own preprocessing and class names; what the
caller gave in their place is put in here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_iscam._utils.files import sha256
from captum_iscam._utils.user_code import user_code
from captum_iscam._utils.validation import as_device
from captum_iscam._utils.warn import warn_user
from captum_iscam.networks import code, hugging_face, timm, torchvision
from captum_iscam.networks.classes import number, read_classes
from captum_iscam.networks.network import LogitsOnly, Network
from captum_iscam.networks.parts import Parts, Request
from captum_iscam.networks.preprocessing import (
    USUAL,
    Preprocessing,
    as_size,
    input_channels,
    settle,
)
from captum_iscam.networks.torchvision import model_names

__all__ = ["Network", "load_classifier", "model_names", "sha256"]

_LIBRARIES: dict[str, Callable[[Request], Parts]] = {
    "timm": timm.load,
    "hf": hugging_face.load,
}


def load_classifier(
    name: str,
    weights: str | Path = "DEFAULT",
    device: torch.device | str = "cpu",
    *,
    classes: str | Path | Sequence[str] | None = None,
    size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Network:
    """Returns a classifier, ready to be explained.

    A library's weights bring their preprocessing and class names. A file of weights
    gets the preprocessing of the name: for torchvision the sizes that it evaluates the
    model with (for most, the shorter side becomes 256 and the centre 224) and
    ImageNet's mean and deviation. The number of classes is read from the file; class
    names are the library's if there are as many. Code that returns no transform gets
    256, 224 and ImageNet's mean and deviation. The model is run on a black image, and
    once more next to another one: a warning names a model whose output changes by that.

    Args:
        name (str): One of: a name of torchvision, such as "resnet50"
            (:func:`model_names` lists all); "timm:NAME", such as
            "timm:resnet50.a1_in1k"; "hf:NAME" of an image classifier on the hub of
            Hugging Face, or "hf:FOLDER" as `save_pretrained` writes it;
            "FILE.py:function" or "package.module:function" for a function without
            arguments that returns the model, or the model and a transform of an RGB
            image (PIL) into its input `(3, H, W)` or `(1, H, W)`. Outputs with
            `.logits` are unwrapped: the model is `network.model.model` then.
        weights (str or Path, optional): "DEFAULT" for the library's own, downloaded
            once and kept, or for what the function returns; another name of
            torchvision's weights for the model; or a file with a state dict, as
            `torch.save(model.state_dict(), file)` or safetensors writes it. It may be
            an entry of a checkpoint, and its names may share a prefix. Weights are
            read from safetensors or with `weights_only=True`, so they cannot run code,
            and code from the hub is never run. Default: "DEFAULT"
        device (torch.device or str, optional): Device that the model is moved to.
            Default: "cpu"
        classes (str, Path or Sequence[str], optional): Names of the classes: the names
            themselves, a file with one name a line (indices from 0 may be in front of
            all, as in `0,name`, or behind) or JSON (a list, `{"0": "name"}` or
            `{"name": 0}`), or a folder of class folders, whose sorted names are taken.
            Default: None, the library's own, "class 0" and so on where it has none
        size (int, optional): Side of the square that is cropped from the centre, in
            pixels, at most 10,000. What the image is resized to before keeps its ratio
            to the crop, for most 256 to 224. Default: None, the network's own
        mean (float or Sequence[float], optional): Subtracted from each channel, for
            pixels from 0 to 1; one number is taken for all channels. Default: None, the
            network's own
        std (float or Sequence[float], optional): What each channel is divided by then,
            above 0; one number is taken for all channels. Default: None, the network's
            own

    Returns:
        *Network*: The model in evaluation mode on the device, its preprocessing, class
        names, and where it came from.

    Raises:
        ValueError: If the name is unknown, its library is missing, code cannot be
            imported or returns no model, the file is no state dict of the model, the
            weights cannot be downloaded, there is another number of classes than
            names, or the model cannot classify an image of that size and those
            channels.
        FileNotFoundError: If a file or folder is missing.

    Examples::

        >>> import tempfile
        >>> from torchvision.models import get_model
        >>> trained = get_model("squeezenet1_1", weights=None, num_classes=2)
        >>> with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        ...     torch.save(trained.state_dict(), file.name)
        ...     network = load_classifier(
        ...         "squeezenet1_1", file.name, classes=["cat", "dog"], size=112
        ...     )
        >>> network.classes
        ('cat', 'dog')
        >>> network.preprocessing["resize"], network.preprocessing["crop"]
        (128, 112)
    """
    # Before all else: a model may take minutes to download.
    home = as_device(device, 'Pass "cpu" or "cuda", and size=, mean=, std= by name.')
    size = None if size is None else as_size(size)
    given = None if classes is None else read_classes(classes)
    parts = _load(name, weights, size)
    own = parts.preprocessing
    if own is None:
        own = _from_caller(name, size, mean, std)
    channels = input_channels(parts.model) if isinstance(own, Preprocessing) else 0
    transform, preprocessing = settle(own, channels, size, mean, std)
    model = parts.model.eval()
    network = Network(
        name,
        model,
        transform,
        preprocessing,
        (),
        parts.weights,
        parts.sha256,
        parts.source,
    )
    model, count = _try(name, model, _example(network))
    names = _class_names(name, given, parts.classes, count)
    return replace(network, model=model.to(home), classes=names)


def _load(name: str, weights: str | Path, size: int | None) -> Parts:
    prefix, colon, inside = name.partition(":")
    if not colon and not name.endswith(".py"):
        return torchvision.load(Request(name, name, weights, size))
    if colon and prefix in _LIBRARIES:
        return _LIBRARIES[prefix](Request(name, inside, weights, size))
    return code.load(Request(name, name, weights, size))


def _from_caller(name: str, *given: object) -> Preprocessing:
    """Returns the usual ratio of sizes, for a model that brings no preprocessing."""
    if None in given:
        raise ValueError(
            f"size, mean and std must be given for a model without an image processor, "
            f"got {name!r}. Pass all three, or write the processor next to the model "
            "with save_pretrained."
        )
    return USUAL


def _example(network: Network) -> Tensor:
    try:
        example = network.example()
    # The transform is the user's code, which may raise anything.
    except Exception as error:
        raise ValueError(
            f"model must have a transform of images (PIL) to tensors, got {error!r} "
            f"from that of {network.name!r}. Correct it."
        ) from error
    if not (example.dim() == 4 and example.shape[1] in (1, 3)):
        raise ValueError(
            "model must have a transform of images to tensors (3, H, W) or (1, H, W), "
            f"got {tuple(example.shape[1:])} from that of {network.name!r}. Correct it."
        )
    return example


def _try(name: str, model: nn.Module, example: Tensor) -> tuple[nn.Module, int]:
    """Returns the model, unwrapped if need be, and its number of classes."""
    try:
        with torch.no_grad(), user_code():
            output = model(example)
    # The model may be the user's code, which may raise anything.
    except Exception as error:
        homes = {p.dtype for p in model.parameters() if p.is_floating_point()}
        if homes and example.dtype not in homes:
            raise ValueError(
                f"model must have parameters of the type of its inputs, "
                f"{example.dtype}, got {', '.join(sorted(map(str, homes)))} from "
                f"{name!r}. Return model.float(), or let the transform return the "
                "type of the model."
            ) from error
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        raise ValueError(
            f"model must take an input of the shape {tuple(example.shape)}, got "
            f"{name!r}, which raised {said}. Pass another size, or mean and std of as "
            "many values as it has channels."
        ) from error
    if isinstance(getattr(output, "logits", None), Tensor):
        model, output = LogitsOnly(model).eval(), output.logits
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != 1:
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        what = f"the shape {shape}" if shape else type(output).__name__
        raise ValueError(
            f"model must return one row of class scores for an image, (1, classes), "
            f"got {what} from {name!r}. Return a model that does."
        )
    _check_steady(name, model, example, output)
    return model, output.shape[1]


def _check_steady(name: str, model: nn.Module, example: Tensor, output: Tensor) -> None:
    """Warns of a model whose output for an image is not that of the image alone."""
    if not bool(output.isfinite().all()):
        return  # NaN is never the same again, and methods name it
    # A model that takes one image only has no others beside it.
    with suppress(Exception), torch.no_grad(), user_code():
        again = model(torch.cat([example + 1, example]))[1:]
        if not bool(((again - output).abs() <= 1e-3 * output.abs().amax()).all()):
            warn_user(
                f"The outputs of {name} for an image change from call to call, or with "
                "the images beside it in a forward pass, and so do maps and metrics. "
                "Without dropout, random numbers and batch statistics they do not: "
                "give functions such as torch.nn.functional.dropout and batch_norm "
                "training=False."
            )


def _class_names(
    name: str,
    given: tuple[str, ...] | None,
    own: tuple[str, ...] | None,
    count: int,
) -> tuple[str, ...]:
    if given is None:
        return own if own is not None and len(own) == count else number(count)
    if len(given) != count:
        raise ValueError(
            f"classes must be one name for each output of {name}, got {len(given)} "
            f"names ({', '.join(given[:3])}, ...) and {count} outputs. Give {count} "
            "names in the order of the outputs."
        )
    return given
