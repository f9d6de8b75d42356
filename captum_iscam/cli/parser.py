"""The options of every command, and the checks of their values."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_iscam import __version__
from captum_iscam.cli.options import (
    add_device,
    add_network,
    add_out,
    add_passes,
    add_plugin,
    add_score,
    add_seed,
)
from captum_iscam.cli.values import (
    not_negative,
    opacity,
    path,
    port,
    positive,
    resolution,
    seed,
    text,
)

_EXPLAIN_METHODS = "is-cam,score-cam,integrated-grad-cam,grad-cam"


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
    _add_app(commands)
    add_benchmark(commands)
    return parser


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="explain what a classifier sees in images",
        description="For each image write a folder with overlay.png (the input and the "
        "maps over it), maps.npz (the maps as arrays, at the size of the layer) and "
        "record.json (model, settings, versions and cost). DIR/index.html shows all "
        "of them in a browser.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=path,
        metavar="IMAGE",
        help='an image, a folder of images, a quoted pattern such as "*.jpg", or '
        "@FILE, a list with one of these in each line",
    )
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="look for images in the folders inside of a folder as well",
    )
    add_network(parser, several=False, bundled=False)
    parser.add_argument(
        "--target",
        type=text,
        metavar="CLASS|INDEX|topN",
        help="class to explain: its name, its index, or the N most probable; a number "
        "is an index (default: top1)",
    )
    parser.add_argument(
        "--method",
        type=text,
        default=_EXPLAIN_METHODS,
        metavar="NAME,...",
        help="methods, separated by commas, or all (default: %(default)s)",
    )
    add_score(parser)
    add_plugin(parser)
    add_out(parser, "captum-iscam-explain")
    _add_look(parser)
    add_device(parser)
    add_passes(parser)
    add_seed(parser)
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


def _add_look(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--panels",
        choices=("together", "separate"),
        default="together",
        help="one picture with all maps of an image, or one without margins for each "
        "map (default: %(default)s)",
    )
    group.add_argument(
        "--original",
        action="store_true",
        help="draw each map on the original photograph as well, uncropped and at its "
        "own resolution",
    )
    group.add_argument(
        "--format",
        choices=("png", "svg", "pdf"),
        default="png",
        help="format of the pictures (default: %(default)s)",
    )
    group.add_argument(
        "--dpi",
        type=resolution,
        default=120,
        metavar="N",
        help="dots per inch of the pictures with panels, each of which is about 2.5 "
        "inches wide; from 20 to 2400 (default: %(default)s)",
    )
    group.add_argument(
        "--cmap",
        type=text,
        metavar="NAME",
        help="colour map of matplotlib (default: inferno)",
    )
    group.add_argument(
        "--alpha",
        type=opacity,
        default=0.8,
        metavar="A",
        help="opacity of a map's largest values, from 0 to 1 (default: %(default)s)",
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="explain the bundled images with the bundled network, offline",
        description="Explain every object in the bundled images by several methods, "
        "and measure how well the maps find it. Runs offline, and takes half a minute "
        "on two idle cores.",
    )
    add_out(parser, "captum-iscam-demo")
    add_seed(parser)


def _add_app(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "app",
        help="explain images on a page in the browser",
        description="Serve a page: drop an image, choose network, layer, class and "
        "methods, see the maps and download them. Without --model it runs offline, "
        "with the bundled network and scenes. Needs the extra app. Ctrl-C stops it.",
    )
    add_network(parser, several=False, bundled=True)
    add_score(parser)
    add_device(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 lets in everybody who can reach this "
        "computer, without a password (default: %(default)s, this computer alone)",
    )
    parser.add_argument(
        "--port",
        type=port,
        metavar="N",
        help="port to listen on (default: the first free one from 7860 on)",
    )


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
        type=path,
        default=Path("captum-iscam-benchmark"),
        metavar="DIR",
        help="folder for the output (default: ./%(default)s)",
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images, networks, methods and metrics")
    group.add_argument(
        "--data",
        type=path,
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
    add_network(group, several=True, bundled=True)
    group.add_argument(
        "--method",
        type=text,
        metavar="NAME,...",
        help="methods; all, and controls for maps that do not depend on the class "
        f"(default: {METHODS})",
    )
    group.add_argument(
        "--metric",
        type=text,
        metavar="NAME,...",
        help="metrics; groups are default, all (without sanity checks and "
        "attainable_*), localisation and sanity (default: default)",
    )
    add_plugin(group)
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
        type=path,
        metavar="FILE",
        help="a TOML file of claims, written before the run: each gets a verdict, "
        "corrected for all of them. It names the methods, metrics and networks where "
        "these are not given",
    )
    group.add_argument(
        "--test-metrics",
        type=not_negative,
        default=0,
        metavar="N",
        help="on the first N images, test on each network which metrics can judge: "
        "whether they put a map of the first method, controls ignored, before copies "
        "that are worse by construction. An image costs one map and nine values of "
        "each metric: 729 passes with the default metrics and no boxes. Use 40 or more "
        "(default: 0, no test)",
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
    add_device(group)
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
