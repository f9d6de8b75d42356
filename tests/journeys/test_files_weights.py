"""Weights from strangers: whatever a file holds, nothing of it is run."""

import io
import os
import pickle
import shutil
import tarfile
import zipfile
from argparse import Namespace

import pytest
import torch
from reference.benchmark_runs import run
from torchvision.models import get_model, get_model_weights

from captum_iscam.benchmark.sources import find_data
from captum_iscam.cli.main import main
from captum_iscam.networks import load_classifier

NAME = "squeezenet1_1"
PROMISE = "Weights that hold code are refused, and the code is not run."


class Code:
    """Unpickled, it calls what it was made with."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def calls(mark):
    """Returns ways to make the file `mark` while a pickle is read."""
    made = f"open({str(mark)!r}, 'w').close()"
    return {
        "system": Code(os.system, f"touch '{mark}'"),
        "eval": Code(eval, made),
        "exec": Code(exec, made),
        "copy": Code(shutil.copy, __file__, str(mark)),
        "state": {"features.0.weight": torch.ones(2), "hidden": [Code(eval, made)]},
        "wrapped": {"state_dict": {"a": torch.ones(1)}, "args": Code(exec, made)},
        "arguments": {
            "model": {"a": torch.ones(1)},
            "args": Namespace(lr=0.1, output=Code(eval, made)),
        },
        "key": {(Code(eval, made), "a"): torch.ones(1)},
        "module": torch.nn.Sequential(torch.nn.Identity(), _module(made)),
    }


def _module(made):
    module = torch.nn.Identity()
    module.secret = Code(eval, made)
    return module


def as_zip(content, file):
    torch.save(content, file)


def as_legacy(content, file):
    torch.save(content, file, _use_new_zipfile_serialization=False)


def as_pickle(content, file):
    file.write_bytes(pickle.dumps(content, protocol=2))


def as_tar(content, file):
    """The archive torch wrote in its first years."""
    nothing = pickle.dumps(0, 2)
    members = {
        "storages": nothing + pickle.dumps([], 2),
        "tensors": nothing,
        "pickle": pickle.dumps(content, 2),
    }
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


WRITERS = {
    "zip": as_zip,
    "legacy": as_legacy,
    "pickle": as_pickle,
    "tar": as_tar,
}


def ways(mark):
    """Returns (name, content, writer) of every kind of hostile file."""
    return [
        (f"{call}.{kind}", content, write)
        for call, content in calls(mark).items()
        for kind, write in WRITERS.items()
    ]


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "code-was-run"


def test_the_hostile_files_are_hostile(tmp_path, mark):
    for name, content, write in ways(mark):
        write(content, tmp_path / name)
        if write is as_pickle:
            pickle.loads((tmp_path / name).read_bytes())
        else:
            torch.load(tmp_path / name, weights_only=False)

        assert mark.exists(), name
        mark.unlink()


def test_a_file_of_weights_runs_no_code(tmp_path, mark, ledger):
    hostile = ways(mark)
    for name, content, write in hostile:
        write(content, tmp_path / name)

        with pytest.raises(ValueError, match="weights must be a file of tensors"):
            load_classifier(NAME, tmp_path / name)

        assert not mark.exists(), name
    ledger.survived("Files", PROMISE, len(hostile))


def test_a_tampered_file_in_the_cache_of_torchvision_runs_no_code(
    tmp_path, monkeypatch, mark, ledger
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = get_model_weights(NAME).DEFAULT.url
    file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    hostile = ways(mark)
    for name, content, write in hostile:
        write(content, file)

        with pytest.raises(ValueError, match=r"Delete it, and it is fetched again"):
            load_classifier(NAME)

        assert not mark.exists(), name
    ledger.survived("Files", PROMISE, len(hostile))


def test_the_names_of_imagenet_run_no_code(tmp_path, mark, ledger):
    (tmp_path / "val").mkdir()
    hostile = ways(mark)
    for name, content, write in hostile:
        write((content, []), tmp_path / "meta.bin")

        with pytest.raises(ValueError, match=r"meta\.bin must be a file of tensors"):
            find_data(tmp_path)

        assert not mark.exists(), name
    ledger.survived("Files", PROMISE, len(hostile))


@pytest.mark.parametrize("found", [([], []), [], {}, (3,), ({}, [])])
def test_other_names_than_those_of_imagenet_are_refused(tmp_path, found):
    (tmp_path / "val").mkdir()
    torch.save(found, tmp_path / "meta.bin")

    with pytest.raises(
        ValueError, match=r"meta\.bin must contain the names of ImageNet"
    ):
        find_data(tmp_path)


def test_the_commands_refuse_hostile_weights(tmp_path, mark, capsys, ledger):
    file = tmp_path / "hostile.pt"
    as_zip(calls(mark)["state"], file)
    (tmp_path / "photographs").mkdir()
    picture = tmp_path / "photographs" / "a.png"
    picture.write_bytes(b"")

    words = ["explain", picture, "--model", NAME, "--weights", file]
    explained = main([*map(str, words), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    data = ["--data", picture.parent, "--model", NAME, "--weights", file]
    data += ["--metric", "sparseness"]
    compared, also_said = run(tmp_path / "runs", *data, "--samples", "1")

    assert (explained, compared) == (2, 2)
    assert "weights must be a file of tensors" in said
    assert "weights must be a file of tensors" in also_said
    assert not mark.exists()
    ledger.survived("Files", PROMISE, 2)


def test_damaged_weights_are_refused_in_one_sentence(tmp_path, ledger):
    torch.manual_seed(0)
    whole = io.BytesIO()
    torch.save(get_model(NAME, weights=None, num_classes=2).state_dict(), whole)
    file = tmp_path / "damaged.pt"
    with zipfile.ZipFile(io.BytesIO(whole.getvalue())) as archive:
        inner = archive.read(next(n for n in archive.namelist() if "data.pkl" in n))
    damaged = [
        b"",
        b"\0" * 100,
        inner,
        whole.getvalue()[:-100],
        whole.getvalue()[: len(whole.getvalue()) // 2],
        whole.getvalue()[100:],
        b"PK\x03\x04",
    ]
    for content in damaged:
        file.write_bytes(content)

        with pytest.raises(ValueError, match="weights must be a file of tensors"):
            load_classifier(NAME, file)
    ledger.survived(
        "Files", "Damaged weights are refused, and the file is named.", len(damaged)
    )
