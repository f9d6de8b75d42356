"""Options that commands share, and values checked while the command line is read."""

from __future__ import annotations

import argparse
from math import isfinite


def add_passes(group: argparse._ActionsContainer) -> None:
    """Adds the options of how many passes methods take, and what is drawn for them."""
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
        "picture (default: each method's own)",
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
