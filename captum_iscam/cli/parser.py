"""The options of every command, and the checks of their values."""

from __future__ import annotations

import argparse
from math import isfinite
from pathlib import Path

from captum_iscam import __version__

_EXPLAIN_METHODS = "is-cam,ss-cam,score-cam,integrated-grad-cam"


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="captum-iscam",
        description="Class activation maps of the Score-CAM family: which part of an "
        "image supports a class.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
    _add_demo(commands)
    add_benchmark(commands)
    return parser


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="explain what a torchvision classifier sees in images",
        description="For each image write NAME.png (the input and the maps over it), "
        "NAME.npz (the maps as arrays, at the size of the layer) and NAME.json (model, "
        "settings, versions and cost).",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="classification model of torchvision, such as squeezenet1_1",
    )
    parser.add_argument(
        "--weights",
        default="DEFAULT",
        metavar="DEFAULT|FILE",
        help="torchvision's weights (downloaded once), or a file with a state dict",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="layer to explain, as in model.named_modules() (default: the last with a "
        "spatial output)",
    )
    parser.add_argument(
        "--target",
        metavar="CLASS|INDEX|topN",
        help="class to explain: its name, its index, or the N most probable "
        "(default: top1)",
    )
    parser.add_argument(
        "--method",
        default=_EXPLAIN_METHODS,
        metavar="NAME,...",
        help="methods, separated by commas, or all (default: %(default)s)",
    )
    add_score(parser)
    _add_plugin(parser)
    _add_out(parser, "captum-iscam-explain")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    add_passes(parser)
    _add_seed(parser)
    parser.add_argument(
        "--autocast",
        action="store_true",
        help="run the network in bfloat16 where that is safe",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="inputs per forward pass; bounds the memory (default: fits the device)",
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="explain the bundled images with the bundled network, offline",
        description="Explain every object in the bundled images by several methods, "
        "and measure how well the maps find it. Runs offline, and takes half a minute "
        "on two idle cores.",
    )
    _add_out(parser, "captum-iscam-demo")
    _add_seed(parser)


def _add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(default),
        metavar="DIR",
        help="folder for the output (default: ./%(default)s)",
    )


def _add_plugin(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or FILE.py that registers methods, metrics or kinds of data; "
        "imported first; may be repeated",
    )


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="seed of the noise (default: 0)",
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


def add_passes(group: argparse._ActionsContainer) -> None:
    """Adds the options that set how many passes methods take, and their noise."""
    group.add_argument(
        "--screening",
        type=share,
        metavar="SHARE",
        help="share of the channels that is-cam, ss-cam and score-cam score; the "
        "weights of the others are predicted (default: all, 0.45 for is-cam)",
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


def seed(text: str) -> int:
    """Returns a seed that every generator takes."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(
            f"must be from 0 to 2**63 - 1, got {number}. Take a smaller number"
        )
    return number


def positive(text: str) -> int:
    """Returns an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be an integer of at least 1, got {text!r}"
        )
    return int(text)


def not_negative(text: str) -> int:
    """Returns an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"must be an integer of at least 0, got {text!r}"
        )
    return int(text)


def share(text: str) -> float:
    """Returns a number above 0 and up to 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and up to 1, got {text!r}")
    return number


def deviation(text: str) -> float:
    """Returns a finite number of at least 0."""
    number = float(text)
    if not (isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(
            f"must be a finite number of at least 0, got {text!r}"
        )
    return number


METHODS = (
    "is-cam,ss-cam,score-cam,integrated-grad-cam,grad-cam,"
    "random-map,center-map,channel-mean"
)

PRESETS: dict[str, dict[str, object]] = {
    "poster": {
        "model": "vgg16,resnet18,squeezenet1_0",
        "layer": "vgg16=features,resnet18=layer4,squeezenet1_0=features",
        "method": "is-cam,ss-cam,score-cam,grad-cam,grad-cam++,smooth-grad-cam++",
        # The poster multiplied the map in, without `keep`.
        "metric": "average_drop_plain,average_increase_plain,insertion,deletion",
        "samples": 2000,
    }
}
"""The values of options that are not given, by preset."""

_DESCRIPTION = """\
Measure how well methods explain networks: every method on every image, every metric on
every map. Without --data it runs offline, on the bundled scenes and network.

One row per image, network, method and metric is written to DIR/rows as soon as it is
known. A run that was stopped or killed continues when the same command is given again.
At the end DIR contains summary.md, .csv and .json and report.html.
"""
_EPILOG = """\
examples:
  captum-iscam benchmark
  captum-iscam benchmark --data imagenet --samples 500 --model resnet50,squeezenet1_1
  captum-iscam benchmark --data photographs/labels.csv --model resnet18 \\
      --method is-cam,score-cam,grad-cam,controls --metric insertion,deletion
  torchrun --nproc-per-node=4 -m captum_iscam benchmark --data imagenet --preset poster
"""


def add_benchmark(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "benchmark",
        help="measure how well methods explain networks on your images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(parser)
    _add_how(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("captum-iscam-benchmark"),
        metavar="DIR",
        help="folder for the output (default: ./%(default)s)",
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images, networks, methods and metrics")
    group.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="a folder with a folder of images per class, a CSV file of files and "
        "labels, an ImageNet or a Pascal VOC folder (default: the bundled scenes)",
    )
    group.add_argument(
        "--samples",
        type=positive,
        metavar="N",
        help="take N images at random, the same on every machine (default: all)",
    )
    group.add_argument(
        "--model",
        metavar="NAME,...",
        help="classification models of torchvision, or scene-net, the bundled one",
    )
    group.add_argument(
        "--weights",
        default="DEFAULT",
        metavar="DEFAULT|PATH|MODEL=FILE,...",
        help="torchvision's weights (downloaded once), a file with a state dict, or a "
        "folder with MODEL.pt for each model (default: %(default)s)",
    )
    group.add_argument(
        "--layer",
        metavar="NAME|MODEL=NAME,...",
        help="layer to explain (default: the last with a spatial output)",
    )
    group.add_argument(
        "--method",
        metavar="NAME,...",
        help="methods; all, and controls for maps that do not depend on the class "
        f"(default: {METHODS})",
    )
    group.add_argument(
        "--metric",
        metavar="NAME,...",
        help="metrics; groups are default, all (without sanity checks and "
        "attainable_*), localisation and sanity (default: default)",
    )
    _add_plugin(group)
    group.add_argument(
        "--target-class",
        choices=("predicted", "true"),
        default="predicted",
        help="class to explain (default: %(default)s)",
    )
    add_score(group)
    group.add_argument(
        "--ignore-labels",
        action="store_true",
        help="ignore labels, which need not be classes of the model then",
    )
    group.add_argument(
        "--claims",
        type=Path,
        metavar="FILE",
        help="a TOML file of claims, written before the run: each gets a verdict, "
        "corrected for all of them. It names the methods, metrics and networks where "
        "these are not given",
    )
    group.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="poster: VGG-16 features, ResNet-18 layer4 and SqueezeNet 1.0 features, "
        "average drop and increase, insertion and deletion, 2000 images of --data",
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computation")
    group.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="S",
        help="for the choice of images, noise and masks (default: %(default)s)",
    )
    add_passes(group)
    group.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help="steps of insertion and deletion (default: 28)",
    )
    group.add_argument(
        "--substrate",
        choices=("zero", "blur"),
        help="what replaces a pixel in insertion and deletion: 0 after "
        "normalisation or the blurred image (default: zero); *_blur is always blurred",
    )
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    group.add_argument(
        "--autocast",
        action="store_true",
        help="run the networks in bfloat16 where that is safe",
    )
    group.add_argument(
        "--internal-batch-size",
        type=positive,
        metavar="N",
        help="inputs per forward pass; bounds the memory (default: fits the device)",
    )
    group.add_argument(
        "--workers",
        type=not_negative,
        default=2,
        metavar="N",
        help="processes that read images (default: %(default)s)",
    )
    group.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="a remark to print under the tables; may be repeated",
    )
