"""Builds a release and tries it, before anything is published.

    python .ci/release.py v1.2.3 dist
    python .ci/release.py --dry-run

Tag, package, citation and changelog must have the same version. `.ci/build.py` builds
and checks the wheel and the source distribution. The wheel is installed with all it
requires in a fresh environment, and `captum-iscam demo` must write its pictures there.
`--dry-run` does the same for the version of the package, without a dated changelog, and
keeps nothing. Needs the extra `release`, and git.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A demo that failed in silence would write small, empty pictures.
PICTURE_BYTES = 10_000


def main() -> None:
    """Builds into a folder and tries what is there; ends with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag", nargs="?", help="for example v1.2.3")
    parser.add_argument("out", nargs="?", type=Path, help="folder of the two archives")
    parser.add_argument("--dry-run", action="store_true", help="keep nothing")
    arguments = parser.parse_args()
    if {arguments.tag is None, arguments.out is None} != {arguments.dry_run}:
        parser.error("give TAG and OUT, or --dry-run alone")
    with tempfile.TemporaryDirectory() as work:
        out = arguments.out or Path(work, "dist")
        if not arguments.dry_run:
            check_tag(arguments.tag)
        run(sys.executable, ROOT / ".ci" / "build.py", out)
        try_wheel(wheel_of(out, package_version()), Path(work))


def check_tag(tag: str) -> None:
    """Ends with what is wrong, unless tag, package and changelog agree."""
    if not tag.startswith("v"):
        sys.exit(f"release: the tag must be v and a version, got {tag}. Tag again.")
    notes = ROOT / ".github" / "release_notes.py"
    run(sys.executable, notes, tag.removeprefix("v"))


def package_version() -> str:
    """Returns the version that the package has, without importing it."""
    text = (ROOT / "captum_iscam" / "__init__.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def wheel_of(out: Path, version: str) -> Path:
    """Returns the wheel of a version; ends if the folder holds other archives."""
    names = sorted(file.name for file in out.iterdir())
    expected = [
        f"captum_iscam-{version}-py3-none-any.whl",
        f"captum_iscam-{version}.tar.gz",
    ]
    if names != expected:
        sys.exit(f"release: {out} must hold {expected}, got {names}. Empty it first.")
    return out / names[0]


def try_wheel(wheel: Path, work: Path) -> None:
    """Installs a wheel in an environment of its own, and runs the demo there."""
    environment = work / "environment"
    venv.create(environment, with_pip=True)
    run(environment / "bin" / "python", "-m", "pip", "install", "-q", wheel.resolve())
    run(environment / "bin" / "captum-iscam", "demo", "--out", work / "demo", cwd=work)
    sizes = [file.stat().st_size for file in (work / "demo").rglob("*.png")]
    if max(sizes, default=0) < PICTURE_BYTES:
        sys.exit("release: the demo of the installed wheel wrote no picture")
    print(f"{wheel.name}: installed, and its demo wrote {len(sizes)} pictures")


def run(*words: object, cwd: Path = ROOT) -> None:
    """Runs a command without the checkout among the modules; ends if it fails."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=variables)
    if done.returncode:
        sys.exit(f"release: {' '.join(str(word) for word in words)} failed")


if __name__ == "__main__":
    main()
