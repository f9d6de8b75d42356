"""Values of options, checked while the command line is read."""

from __future__ import annotations

import argparse


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
