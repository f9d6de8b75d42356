"""Small runs of `captum-iscam explain`."""

import contextlib
import io
import json
import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import get_model

from captum_iscam._utils.files import sha256
from captum_iscam.cli.main import main

NAME = "squeezenet1_1"


def weights_in(folder):
    """Writes weights of a network that knows nothing; returns the file."""
    torch.manual_seed(0)
    file = folder / "fresh.pt"
    torch.save(get_model(NAME, weights=None, num_classes=3).state_dict(), file)
    return file


def command(weights, out, files, target="top1"):
    """Returns the words that explain files by one quick method."""
    options = ["--model", NAME, "--weights", weights, "--method", "grad-cam"]
    options += ["--target", target]
    return [str(word) for word in ("explain", *options, "--out", out, "--", *files)]


def explain_alone(weights, out, files):
    """Explains files as the whole work of a process, in silence."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        raise SystemExit(main(command(weights, out, files)))


def explain_until(step, weights, out, files, target):
    """Explains files, and ends the process as a kill would at a step of the writing.

    Steps are the writing of a file, which ends halfway, and the move of a file or a
    folder, which ends before it, counted from 0.
    """
    steps = count()
    write, move = Path.write_bytes, Path.replace

    def end():
        os.kill(os.getpid(), signal.SIGKILL)

    def write_until(file, content):
        if next(steps) == step:
            write(file, content[: len(content) // 2])
            end()
        return write(file, content)

    def move_until(file, place):
        if next(steps) == step:
            end()
        return move(file, place)

    Path.write_bytes, Path.replace = write_until, move_until
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        raise SystemExit(main(command(weights, out, files, target)))


def photographs(folder, count):
    """Writes pictures of noise; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        noise = np.random.default_rng(number).integers(0, 256, (60, 80, 3))
        Image.fromarray(noise.astype(np.uint8)).save(file)
    return files


def records_in(out):
    """Returns the files of the records in a folder, without those of a hidden folder,
    which a run is still writing or was killed in."""
    return list(out.glob("[!.]*/record.json"))


def whole_results(out):
    """Returns the records in a folder by name, after a look into all their files."""
    records = {}
    for file in records_in(out):
        record = records[file.parent.name] = json.loads(file.read_bytes())
        for name, digest in record["files_sha256"].items():
            assert sha256(file.parent / name) == digest
        with np.load(file.with_name("maps.npz")) as arrays:
            assert {entry["map"] for entry in record["maps"]} == set(arrays)
    folders = {entry.name for entry in out.iterdir() if entry.is_dir()}
    assert {name for name in folders if not name.startswith(".")} <= records.keys()
    return records
