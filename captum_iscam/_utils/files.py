"""Files that are whole whenever they can be seen, in folders with one writer."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import stat
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

try:
    import fcntl
except ImportError:  # not a POSIX system
    # Without locks: `locked` asks for None, which mypy takes for no module.
    fcntl = None  # type: ignore[assignment]

LOCK = ".captum-iscam.lock"
"""The file that is locked while a run writes to a folder."""

_UNFINISHED = re.compile(r"\.captum-iscam\..+\.\d+\.part")
# What another run has in the file: the number of its process, or nothing.
_OWNER = re.compile(rb"(\d{0,20})\n?")


def write_whole(file: Path, content: bytes, rank: int = 0) -> None:
    """Writes a file that is complete whenever it can be seen.

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    write_together({file: content}, rank)


def write_together(contents: Mapping[Path, bytes], rank: int = 0) -> None:
    """Writes files that belong together, and moves none before all are written.

    All are written completely under temporary names before the first is renamed. A
    process that ends between the moves, or a move that fails after another, leaves some
    moved and the rest under temporary names; :func:`unfinished` finds those.

    Args:
        contents (Mapping[Path, bytes]): What is to be in each file. They come to their
            places in this order.
        rank (int, optional): Tells apart processes that share a folder. Default: 0

    Raises:
        OSError: If one cannot be written, and then what was there before is still
            there; or if one cannot be moved after others were, which the message says.
    """
    parts: dict[Path, Path] = {}
    file = next(iter(contents))
    try:
        for file, content in contents.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            # Named by the process alone, so that what a killed run leaves is written
            # over.
            parts[file] = part_of(file, rank)
            # A link of that name must not lead the writing elsewhere.
            parts[file].unlink(missing_ok=True)
            parts[file].write_bytes(content)
        for file in contents:
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        _drop(parts.values())
        raise not_written(error, file) from error
    _move(parts)


def _move(parts: Mapping[Path, Path]) -> None:
    moved: list[Path] = []
    for file, part in parts.items():
        try:
            part.replace(file)
        except OSError as error:
            if moved:
                # The parts stay, for the next run to move.
                said = error.strerror or str(error)
                raise OSError(
                    f"{file} cannot be written ({said}), but {moved[-1].name} was. "
                    "Mend it, and give the same command again."
                ) from error
            _drop(parts.values())
            raise not_written(error, file) from error
        moved.append(file)


def _drop(parts: Iterable[Path]) -> None:
    for part in parts:
        with suppress(OSError):
            part.unlink()


def part_of(file: Path, rank: int = 0) -> Path:
    """Returns where a file is written before it is moved to its place."""
    return file.with_name(f".captum-iscam.{file.name}.{rank}.part")


def not_written(error: OSError, file: Path) -> OSError:
    """Returns the error to raise where a file cannot be written."""
    said = error.strerror or str(error)
    return OSError(
        f"{file} cannot be written ({said}). Nothing that was there is lost: make room "
        "or mend it, and give the same command again."
    )


def as_json(value: Any) -> bytes:
    """Returns JSON for people to read."""
    # A file name that is no valid text becomes the escape that JSON has for it.
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def drop_unfinished(folder: Path, below: Iterable[str] = ()) -> int:
    """Removes what killed runs left half written; returns how many files that were.

    Args:
        folder (Path): Where to look, but not in the folders inside of it.
        below (Iterable[str], optional): Names of those that are searched to the bottom,
            since they hold nothing of anybody else. Default: ()
    """
    parts = unfinished(folder)
    for name in below:
        parts += _parts_among((folder / name).rglob(".*"))
    for part in parts:
        part.unlink(missing_ok=True)
    return len(parts)


def unfinished(folder: Path) -> list[Path]:
    """Returns what killed runs left in a folder, written but not in its place."""
    return _parts_among(folder.iterdir())


def _parts_among(files: Iterable[Path]) -> list[Path]:
    return [
        file
        for file in files
        if _UNFINISHED.fullmatch(file.name)
        and stat.S_ISREG(file.stat(follow_symlinks=False).st_mode)
    ]


def sha256(file: Path) -> str:
    """Returns the SHA-256 digest of a file, in hexadecimal digits.

    Args:
        file (Path): The file; it is read in pieces.

    Examples::

        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as empty:
        ...     sha256(Path(empty.name))[:16]
        'e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def safe_name(name: str) -> str:
    """Returns a file name for a text: itself where it is one, else with a digest.

    Examples::

        >>> safe_name("resnet18"), safe_name("hf:google/vit")
        ('resnet18', 'hf-google-vit-5f21c757d9')
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    safe = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[-60:]
    return f"{safe or 'unnamed'}-{digest[:10]}"


def sha256_if_readable(file: Path) -> str | None:
    """Returns the SHA-256 digest of a file, None where there is none to read."""
    try:
        # Reading a pipe would wait for a writer.
        return sha256(file) if file.is_file() else None
    except OSError:
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of the folder, until the block or the process ends.

    Only POSIX systems have such locks, and not on every file system; elsewhere nobody
    is kept out.

    Raises:
        ValueError: If another run is writing there, or the file to lock is not ours.
        OSError: If the folder cannot be written.
    """
    if fcntl is None:
        yield
        return
    lock = folder / LOCK
    # Neither to follow a link out of the folder nor to wait for a pipe.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        stream = os.open(lock, flags, 0o666)
    except OSError as error:
        raise not_written(error, lock) from error
    try:
        _take(stream, lock)
        yield
    finally:
        os.close(stream)


def _take(stream: int, lock: Path) -> None:
    regular = stat.S_ISREG(os.fstat(stream).st_mode)
    owner = _OWNER.fullmatch(os.pread(stream, 30, 0)) if regular else None
    if owner is None:
        raise ValueError(
            f"out must be a folder whose {LOCK} is that of a run, got "
            f"{str(lock)!r}, which holds something else. Rename it, or choose another "
            "folder with --out."
        )
    try:
        # Of the process alone: a flock would live on in workers that outlive it.
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return  # a file system without locks
        raise ValueError(
            "out must be a folder no other run writes to, got "
            f"{str(lock.parent)!r}, where process {owner[1].decode() or 'unknown'} is "
            "at work. Wait for it or choose another with --out."
        ) from error
    try:
        os.ftruncate(stream, 0)
        os.write(stream, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise not_written(error, lock) from error


# What the unpickler raises for a file that is something else depends on its bytes.
_NO_TENSORS = (
    pickle.UnpicklingError,
    AttributeError,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _OtherFormatError(ValueError):
    """A file that is known to hold no tensors, and what it holds instead."""


def read_tensors(file: Path, argument: str, repair: str) -> Any:
    """Returns the tensors in a file, on the CPU, with the containers around them.

    Args:
        file (Path): A file that torch.save wrote, or one in the format of safetensors.
        argument (str): What the file is to the user, for the message.
        repair (str): What helps where the file is something else.

    Raises:
        ValueError: If the file holds anything else, code above all, or if safetensors
            is needed and not installed.
    """
    try:
        if _is_safetensors(file):
            return _read_safetensors(file)
        # Before 2.6 torch unpacks these archives of its first years, and trusts them.
        if tarfile.is_tarfile(file):
            raise _OtherFormatError("a tar archive")
        if _is_torchscript(file):
            raise _OtherFormatError("a TorchScript archive, which holds code")
        with _namespaces_allowed():
            return torch.load(file, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as e:
        raise ValueError(
            f"{argument} must be a file that can be read, got safetensors in "
            f"{str(file)!r}. Install its library: python -m pip install safetensors."
        ) from e
    except _NO_TENSORS as e:
        raise ValueError(
            f"{argument} must be a file of tensors that torch.load reads, got "
            f"{str(file)!r} ({_what_it_holds(e)}). {repair}"
        ) from e


def _is_safetensors(file: Path) -> bool:
    """Whether a file begins with the length of a header in JSON, and the header."""
    with file.open("rb") as stream:
        start = stream.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
    except SafetensorError as e:
        raise _OtherFormatError("damaged safetensors") from e
    return tensors


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _namespaces_allowed() -> AbstractContextManager[None]:
    """Lets torch.load read the arguments of a script, which torchvision's scripts save.

    A Namespace runs nothing: only its attributes are set.
    """
    allow = getattr(torch.serialization, "safe_globals", None)  # from torch 2.5 on
    # Leaving the block forbids the class, even where the caller had allowed it before.
    if allow is None or Namespace in torch.serialization.get_safe_globals():
        return nullcontext()
    allowed: AbstractContextManager[None] = allow([Namespace])
    return allowed


def _what_it_holds(error: Exception) -> str:
    if isinstance(error, _OtherFormatError):
        return str(error)
    # How torch names what it refuses, from 2.4 on and before.
    found = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]{1,100})", str(error))
    if found is None:
        return type(error).__name__
    if found[1] == "argparse.Namespace":
        return "it holds argparse.Namespace, which torch 2.5 and later read"
    return f"it holds {found[1]}, and anything but tensors may run code"
