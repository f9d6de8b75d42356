"""The options of `captum-iscam benchmark`."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_iscam.commands._arguments import (
    add_passes,
    not_negative,
    positive,
    seed,
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
        "metric": "average_drop,average_increase,insertion,deletion",
        "samples": 2000,
    }
}
"""What a preset puts in place of options that are not given."""

_DESCRIPTION = """\
Measure how well methods explain networks: every method on every image, every metric on
every map. Without --data it runs offline, on the bundled scenes and network.

One row per image, network, method and metric is written to DIR/rows as soon as it is
known. A run that was stopped or killed goes on where it was when the same command is
given again. At the end DIR holds summary.md, .csv and .json and report.html.
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
        help="folder for what is written (default: ./%(default)s)",
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is compared")
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
        "folder that holds MODEL.pt for each model (default: %(default)s)",
    )
    group.add_argument(
        "--layer",
        metavar="NAME|MODEL=NAME,...",
        help="layer to explain (default: the last with a spatial output)",
    )
    group.add_argument(
        "--method",
        metavar="NAME,...",
        help="methods; all, and controls for maps that know nothing of the class "
        f"(default: {METHODS})",
    )
    group.add_argument(
        "--metric",
        metavar="NAME,...",
        help="metrics; default, all for all but the sanity checks, localisation and "
        "sanity for those (default: default)",
    )
    group.add_argument(
        "--target-class",
        choices=("predicted", "true"),
        default="predicted",
        help="class to explain (default: %(default)s)",
    )
    group.add_argument(
        "--ignore-labels",
        action="store_true",
        help="for images whose labels are no classes of the model",
    )
    group.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="poster: VGG-16 features, ResNet-18 layer4 and SqueezeNet 1.0 features, "
        "average drop and increase, insertion and deletion, 2000 images of --data",
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is computed")
    group.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="S",
        help="of the choice of images, of noise and of masks (default: %(default)s)",
    )
    add_passes(group)
    group.add_argument(
        "--steps",
        type=positive,
        default=28,
        metavar="N",
        help="steps of insertion and deletion (default: %(default)s)",
    )
    group.add_argument(
        "--substrate",
        choices=("zero", "blur"),
        default="zero",
        help="what a removed pixel shows in insertion and deletion: 0 after "
        "normalisation or a blurred image (default: %(default)s)",
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
        help="inputs per forward pass, which bounds the memory (default: fits itself)",
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
        help="what readers of the tables have to know; may be repeated",
    )
