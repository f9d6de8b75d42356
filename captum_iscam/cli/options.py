"""The options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_iscam.cli.values import (
    deviation,
    numbers,
    path,
    positive,
    seed,
    share,
    text,
)


def add_network(
    group: argparse._ActionsContainer, several: bool, bundled: bool
) -> None:
    """Adds the options that say which network is explained, and how images enter it.

    Args:
        group (argparse._ActionsContainer): Where they are added.
        several (bool): Whether several networks can be named.
        bundled (bool): Whether the bundled network can be, and is the default.
    """
    more, layers = ("", "") if not several else ("|MODEL=FILE,...", "|MODEL=NAME,...")
    group.add_argument(
        "--model",
        type=text,
        required=not bundled,
        metavar="NAME,..." if several else "NAME",
        help="resnet18 or another of torchvision, timm:NAME, hf:NAME or hf:FOLDER of "
        "Hugging Face, FILE.py:function or package.module:function that returns a "
        "model or (model, transform)" + ("; scene-net, the bundled one" * bundled),
    )
    group.add_argument(
        "--weights",
        type=text,
        default="DEFAULT",
        metavar=f"DEFAULT|{'PATH' if several else 'FILE'}{more}",
        help="the library's own (downloaded once), or a file with a state dict"
        + (", or a folder with MODEL.pt for each model" * several)
        + " (default: %(default)s)",
    )
    group.add_argument(
        "--layer",
        metavar=f"NAME{layers}",
        help="layer to explain, as in model.named_modules() (default: the last with a "
        "spatial output)",
    )
    group.add_argument(
        "--classes",
        type=path,
        metavar="FILE",
        help="names of the classes: one a line, JSON, or a folder of class folders "
        "(default: the library's, if there are as many)",
    )
    group.add_argument(
        "--size",
        type=positive,
        metavar="N",
        help="side of the crop in pixels; the image is resized before by the network's "
        "own ratio, mostly 256 to 224 (default: the network's)",
    )
    for name, what in (("mean", "subtracted from"), ("std", "that divides")):
        group.add_argument(
            f"--{name}",
            type=numbers,
            metavar="X|X,X,X",
            help=f"value {what} each channel, for pixels from 0 to 1 (default: the "
            "network's)",
        )


def add_score(group: argparse._ActionsContainer) -> None:
    """Adds the option that says what the network's outputs are."""
    group.add_argument(
        "--score",
        choices=("softmax", "sigmoid", "identity"),
        help="score of an output, for probabilities, methods and metrics: sigmoid for "
        "one logit or several labels per image, identity for the output itself "
        "(default: softmax, and the output itself for methods with gradients)",
    )


def add_device(group: argparse._ActionsContainer) -> None:
    """Adds the option that names the device."""
    group.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto)",
    )


def add_passes(group: argparse._ActionsContainer) -> None:
    """Adds the options that set how many passes methods take, and their noise."""
    group.add_argument(
        "--screening",
        type=share,
        metavar="SHARE",
        help="share of the channels that is-cam, ss-cam, score-cam and poly-cam score; "
        "the weights of the others are predicted (default: all, 0.45 for is-cam)",
    )
    group.add_argument(
        "--n-steps",
        type=positive,
        metavar="N",
        help="points on the path of is-cam, each a pass per channel (default: three, "
        "for the most important channels)",
    )
    group.add_argument(
        "--n-samples",
        type=positive,
        default=35,
        metavar="N",
        help="noisy copies, for ss-cam and smooth-grad-cam++ (default: %(default)s)",
    )
    group.add_argument(
        "--stdevs",
        type=deviation,
        metavar="S",
        help="standard deviation of their noise, in the units of the preprocessed "
        "image (default: each method's own)",
    )
    group.add_argument(
        "--n-masks",
        type=positive,
        default=4000,
        metavar="N",
        help="random masks, for rise (default: %(default)s)",
    )


def add_plugin(group: argparse._ActionsContainer) -> None:
    """Adds the option that imports modules of the user's own."""
    group.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or FILE.py that registers methods, metrics or kinds of data; "
        "imported first; may be repeated",
    )


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the option that names the output folder."""
    parser.add_argument(
        "--out",
        type=path,
        default=Path(default),
        metavar="DIR",
        help="folder for the output (default: ./%(default)s)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Adds the option that seeds the noise."""
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="seed of the noise (default: 0)",
    )
