"""Whether a vulnerability of what we depend on is known at the installed version.

    python .ci/audit.py

asks PyPI's JSON API, as pip-audit does, about each direct dependency. A vulnerability
that `.ci/known_vulnerabilities.txt` does not list with a reason ends it with 1. What
cannot be asked is said and fails nothing: that a database is out of reach is no fault
of a change.
"""

from __future__ import annotations

import configparser
import json
import re
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "https://pypi.org/pypi/{name}/{version}/json"


def main() -> int:
    """Prints what is known of each dependency; returns 1 for what is not listed."""
    listed = known(Path(__file__).with_name("known_vulnerabilities.txt"))
    found, unasked = False, 0
    for name in dependencies(ROOT / "setup.cfg"):
        try:
            # A local version, as in 2.3.0+cpu, is unknown to the index.
            at = version(name).partition("+")[0]
        except PackageNotFoundError:  # this Python has it built in
            continue
        said, bad = about(name, at, listed, ask)
        found, unasked = found or bad, unasked + (said.startswith("NOT CHECKED"))
        print(said)
    if unasked:
        print(f"{unasked} dependencies are not checked: no answer from {ADDRESS}.")
    return int(found)


def about(
    name: str, at: str, listed: dict[str, str], ask: Callable[[str, str], Any]
) -> tuple[str, bool]:
    """Returns what to say of a dependency, and whether that must not pass."""
    try:
        answer = ask(name, at)["vulnerabilities"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"NOT CHECKED: {name} {at} ({error})", False
    lines, bad = [], False
    for entry in answer:
        if entry.get("withdrawn"):
            continue
        ids = [entry["id"], *entry.get("aliases", [])]
        reason = next((listed[i] for i in ids if i in listed), None)
        bad = bad or reason is None
        fixed = ", ".join(entry.get("fixed_in") or []) or "no version"
        judged = f"listed: {reason}" if reason else f"NOT LISTED, fixed in {fixed}"
        lines.append(f"{name} {at}: {', '.join(ids)}: {judged}")
    return "\n".join(lines) or f"{name} {at}: nothing known", bad


def ask(name: str, at: str) -> Any:
    """Returns PyPI's answer about a version."""
    address = ADDRESS.format(name=name, version=at)
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def dependencies(file: Path) -> list[str]:
    """Returns the names of the direct dependencies."""
    config = configparser.ConfigParser()
    config.read(file)
    lines = config["options"]["install_requires"].split("\n")
    return [re.split(r"[<>=!~; ]", line)[0] for line in lines if line.strip()]


def known(file: Path) -> dict[str, str]:
    """Returns the listed ids with their reasons.

    Raises:
        ValueError: If one has no reason.
    """
    listed = {}
    for line in file.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            if not reason.strip():
                raise ValueError(f"{file.name}: {name} must have a reason.")
            listed[name] = reason.strip()
    return listed


if __name__ == "__main__":
    sys.exit(main())
