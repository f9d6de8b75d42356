"""Values of options, and what is wrong with them."""

from __future__ import annotations

import argparse
from math import isfinite
from pathlib import Path


def path(text: str) -> Path:
    """Returns a path; an empty one would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError(
            "must be the path of a file or folder, got an empty text. Is a variable "
            "unset?"
        )
    return Path(text)


def text(value: str) -> str:
    """Returns a text; an empty one would stand for the default."""
    if not value.strip():
        raise argparse.ArgumentTypeError(
            "must be a name or a value, got an empty text. Is a variable unset?"
        )
    return value


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


def port(text: str) -> int:
    """Returns the number of a port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(
            f"must be an integer from 1 to 65535, got {text!r}"
        )
    return int(text)


def resolution(text: str) -> int:
    """Returns dots per inch at which text can be drawn."""
    if not (text.isdecimal() and len(text) < 5 and 20 <= int(text) <= 2400):
        raise argparse.ArgumentTypeError(
            f"must be an integer from 20 to 2400, got {text!r}"
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


def opacity(text: str) -> float:
    """Returns a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text!r}")
    return number


def deviation(text: str) -> float:
    """Returns a finite number of at least 0."""
    number = float(text)
    if not (isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(
            f"must be a finite number of at least 0, got {text!r}"
        )
    return number


def numbers(text: str) -> list[float]:
    """Returns one or three numbers from 0 to 1, separated by commas."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3) or not all(map(isfinite, found)):
        raise argparse.ArgumentTypeError(
            f"must be one or three numbers separated by commas, got {text!r}"
        )
    if not all(0 <= number <= 1 for number in found):
        raise argparse.ArgumentTypeError(
            f"must be for pixels from 0 to 1, got {text!r}. Divide it by 255"
        )
    return found
