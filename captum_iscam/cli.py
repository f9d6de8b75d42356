"""The command line: `captum-iscam`, also `python -m captum_iscam`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captum_iscam import __version__
from captum_iscam.commands._arguments import add_passes, positive, seed
from captum_iscam.commands._benchmark_arguments import add_benchmark

_EXPLAIN_METHODS = "is-cam,ss-cam,score-cam,integrated-grad-cam"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv (Sequence[str], optional): The arguments. Default: None, those of the
            process

    Returns:
        0, or 1 if the work could not be done for some of what was given, or 2 if the
        command itself was wrong.
    """
    try:
        args = _parser().parse_args(argv)
        args.words = sys.argv[1:] if argv is None else list(argv)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else 2
    try:
        # Imported when needed: torchvision takes a second that --help need not wait.
        if args.command == "demo":
            from captum_iscam.commands.demo import run
        elif args.command == "benchmark":
            from captum_iscam.commands.benchmark import run
        else:
            from captum_iscam.commands.explain import run
        return run(args)
    except (ValueError, FileNotFoundError) as error:
        _complain(f"captum-iscam {args.command}: error: {error}")
        return 2
    except OSError as error:
        _complain(f"captum-iscam {args.command}: {error}")
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _complain(said: str) -> None:
    from captum_iscam.commands._folder import printable

    print(printable(said, sys.stderr), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captum-iscam",
        description="Class activation maps of the Score-CAM family: which part of a "
        "picture speaks for a class.",
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
        help="explain what a torchvision classifier sees in pictures",
        description="For each picture write NAME.png (the input and the maps over it), "
        "NAME.npz (the maps as arrays, at the size of the layer) and NAME.json (what "
        "was computed, and how).",
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
        help="inputs per forward pass, which bounds the memory (default: fits itself)",
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="explain the bundled pictures with the bundled network, offline",
        description="Explain every object in the bundled pictures by several methods, "
        "and measure how well the maps find it. Needs no network, and half a minute on "
        "two idle cores.",
    )
    _add_out(parser, "captum-iscam-demo")
    _add_seed(parser)


def _add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(default),
        metavar="DIR",
        help="folder for what is written (default: ./%(default)s)",
    )


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of the noise (default: 0)"
    )
