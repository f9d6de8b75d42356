"""Builds the wheel and the source distribution, twice, and compares.

    python .ci/build.py dist

The two builds must be the same byte for byte, hold all that is tracked and nothing
else, and pass `twine check`. Needs the extra `release`, and git.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What setuptools adds to the source distribution.
MADE = re.compile(r"PKG-INFO|captum_iscam\.egg-info/.*")


def main() -> None:
    """Builds into a folder; ends with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    tracked, stamp = (
        set(git("ls-files").split("\n")),
        int(git("log", "-1", "--format=%ct")),
    )
    with tempfile.TemporaryDirectory() as work:
        first, second = (
            built(Path(work) / name, tracked, stamp) for name in ("first", "second")
        )
        for one, other in zip(first, second, strict=True):
            if digest(one) != digest(other):
                sys.exit(f"{one.name} differs between two builds of the same source")
            print(f"{digest(one)}  {one.name}")
            wrong = difference(tracked, one)
            if wrong:
                sys.exit(f"{one.name} {wrong}")
        files = [str(file) for file in first]
        subprocess.run(
            [sys.executable, "-m", "twine", "check", "--strict", *files], check=True
        )
        out.mkdir(parents=True, exist_ok=True)
        for file in first:
            shutil.copy(file, out)


def git(*words: str) -> str:
    """Returns what git says."""
    done = subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def built(work: Path, tracked: set[str], stamp: int) -> list[Path]:
    """Returns the wheel and the source distribution of the tracked files."""
    source = work / "source"
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    variables = {**os.environ, "SOURCE_DATE_EPOCH": str(stamp)}
    command = [
        sys.executable,
        "-m",
        "build",
        "--outdir",
        str(work / "dist"),
        str(source),
    ]
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
    (archive,) = (work / "dist").glob("*.tar.gz")
    archive.write_bytes(undated(archive.read_bytes(), stamp))
    return sorted((work / "dist").iterdir())


def undated(archive: bytes, stamp: int) -> bytes:
    """Returns a source distribution without the traces of who built it, and when.

    setuptools heeds SOURCE_DATE_EPOCH in the wheel alone.
    """
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile("", "wb", fileobj=packed, mtime=stamp) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
            entry.mtime, entry.pax_headers = stamp, {}
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            new.addfile(entry, old.extractfile(entry) if entry.isfile() else None)
    return packed.getvalue()


def difference(tracked: set[str], file: Path) -> str:
    """Returns what an archive lacks or has too much, or nothing."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            names = {n for n in archive.namelist() if ".dist-info/" not in n}
        wanted = {name for name in tracked if name.startswith("captum_iscam/")}
    else:
        with tarfile.open(file) as archive:
            paths = [m.name.partition("/")[2] for m in archive if m.isfile()]
        names = {name for name in paths if not MADE.fullmatch(name)}
        wanted = tracked
    lacking, extra = sorted(wanted - names), sorted(names - wanted)
    said = [f"lacks {', '.join(lacking)}"] if lacking else []
    said += [f"holds {', '.join(extra)}, which is not tracked"] if extra else []
    return " and ".join(said)


def digest(file: Path) -> str:
    """Returns the SHA-256 digest of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
