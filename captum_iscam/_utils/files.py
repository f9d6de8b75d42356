"""Files that are whole whenever they can be seen, in folders with one writer."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
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

    Args:
        file (Path): The file; folders around it are made.
        content (bytes): What is to be in it.
        rank (int, optional): Tells apart processes that share a folder. Default: 0

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    # Named by the process alone, so that what a killed run leaves is written over.
    part = part_of(file, rank)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A link of that name must not lead the writing elsewhere.
        part.unlink(missing_ok=True)
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise not_written(error, file) from error


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes a folder of files that is complete whenever it can be seen.

    A folder of that name is replaced as a whole: it is moved aside, the new one is
    moved into its place, and then the old one is removed. A process that is killed
    between the two moves leaves the old one aside; `put_back_all` finds it.

    Args:
        folder (Path): The folder; those around it are made.
        contents (Mapping[str, bytes]): What is to be in each file, by its path in the
            folder.

    Raises:
        OSError: If it cannot be written; what was there before is still there then.
    """
    part, aside = part_of(folder), aside_of(folder)
    try:
        _remove(part)
        for name, content in contents.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
        if folder.is_dir():
            folder.replace(aside)
        part.replace(folder)
    except OSError as error:
        with suppress(OSError):
            _remove(part)
        with suppress(OSError):
            put_back(aside, folder)
        raise not_written(error, folder) from error
    with suppress(OSError):
        _remove(aside)


def aside_of(folder: Path) -> Path:
    """Returns where a folder is moved while another takes its place."""
    return folder.with_name(f".captum-iscam.{folder.name}.old")


def put_back_all(parent: Path) -> None:
    """Moves folders back to their places that a killed run had moved aside."""
    for aside in parent.glob(".captum-iscam.?*.old"):
        put_back(aside, parent / aside.name[len(".captum-iscam.") : -len(".old")])


def put_back(aside: Path, folder: Path) -> None:
    """Moves a folder back to its place, or removes it where the place is taken."""
    if aside.is_dir() and not aside.is_symlink():
        if os.path.lexists(folder):
            _remove(aside)
        else:
            aside.replace(folder)


def _remove(path: Path) -> None:
    """Removes a file or a folder, if there is one; a link is not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
    found = list(folder.iterdir())
    for name in below:
        found += (folder / name).rglob(".*")
    parts = [file for file in found if _is_unfinished(file)]
    for part in parts:
        _remove(part)
    return len(parts)


def _is_unfinished(file: Path) -> bool:
    """Whether a killed run left this file or folder, written but not in its place."""
    kind = stat.S_IFMT(file.stat(follow_symlinks=False).st_mode)
    named = _UNFINISHED.fullmatch(file.name)
    return bool(named) and kind in (stat.S_IFREG, stat.S_IFDIR)


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


def read_named(file: Path, argument: str, repair: str) -> bytes:
    """Returns the content of a file that the user has named.

    Args:
        file (Path): The file. A pipe is none: reading it would wait for a writer.
        argument (str): What the file is to the user, for the message.
        repair (str): What helps where there is none.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it cannot be read.
    """
    # Unlike that of Path, it raises for no name.
    if not os.path.isfile(file):
        raise FileNotFoundError(
            f"{argument} must be an existing file, got {str(file)!r}"
            f"{kind_in_place_of_file(file)}. {repair}"
        )
    try:
        return file.read_bytes()
    except OSError as e:
        raise ValueError(
            f"{argument} must be a file that can be read, got {str(file)!r} "
            f"({e.strerror}). {repair}"
        ) from e


def kind_in_place_of_file(path: str | Path) -> str:
    """Returns what an error says of a path that is no regular file, "" if missing."""
    if os.path.isdir(path):
        return ", which is a folder"
    if os.path.exists(path):  # such as what a shell makes of <(command)
        return (
            ", which is a pipe or a device. Only regular files are read: write what it "
            "gives to one"
        )
    return ""


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
        # By the name alone torch would take what it has saved for safetensors.
        with _namespaces_allowed(), file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
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
