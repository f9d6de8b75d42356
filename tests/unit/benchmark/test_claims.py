"""A file of claims: what is read, and what is refused with a repair."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from captum_iscam.benchmark.claims import Claim, check_claims, read_claims

TEXT = """\
[[claim]]
method = "is-cam"
other = "score-cam"
model = "resnet18"
metric = "insertion"
margin = 0.01
"""
CLAIM = Claim("is-cam", "score-cam", "resnet18", "insertion", 0.01)
RUN = {
    "methods": {"is-cam": {}, "score-cam": {}},
    "models": {"resnet18": {"layer": "layer4"}},
    "metrics": {
        "insertion": {"higher_is_better": True},
        "top_share": {"higher_is_better": None},
    },
    "data": {"images": [{"id": "val_1.jpg"}, {"id": "train_1.jpg"}]},
}


def written(tmp_path, text):
    file = tmp_path / "claims.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_gives_its_claims_and_digest(tmp_path):
    more = TEXT + 'direction = "lower"\nlayer = "layer4"\nimages = "val_*"\n'
    file = written(tmp_path, TEXT + more)

    found = read_claims(file)

    second = replace(CLAIM, direction="lower", layer="layer4", images="val_*")
    assert found.claims == (CLAIM, second)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.names("method") == ["is-cam", "score-cam"]
    assert found.names("metric") == ["insertion"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got an empty file"),
        ("claim = 3", r"tables \[\[claim\]\]"),
        ("not toml", "must be a TOML file"),
        (TEXT + "[settings]\nalpha = 0.5", "nothing else, got claim, settings"),
        (TEXT + TEXT, "differ from each other"),
        (TEXT + "alpha = 0.1", "claim 1: .*known entries, got alpha"),
        (TEXT.replace("margin = 0.01", ""), "claim 1: .*got none for margin"),
        (TEXT.replace("0.01", "0"), "margin must be a finite number above 0, got 0"),
        (TEXT.replace("0.01", "inf"), "margin must be a finite number"),
        (TEXT.replace("0.01", "true"), "margin must be a finite number"),
        (TEXT.replace("0.01", '"0.01"'), "margin must be a finite number"),
        (TEXT.replace('"is-cam"', "3"), "method must be a text, got 3"),
        (TEXT.replace('"is-cam"', '"score-cam"'), "other must be another method"),
        (TEXT + 'direction = "up"', "direction must be one of"),
    ],
)
def test_a_wrong_file_is_refused_with_its_repair(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_claims(written(tmp_path, text))

    assert str(caught.value).endswith(".")


def test_a_file_with_a_mark_of_its_encoding_is_read(tmp_path):
    (tmp_path / "claims.toml").write_text(TEXT, encoding="utf-8-sig")

    assert len(read_claims(tmp_path / "claims.toml").claims) == 1


@pytest.mark.parametrize("name", ["missing.toml", ".", "pipe", "x" * 5000, "file/x"])
def test_what_is_no_file_is_said(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()

    with pytest.raises(FileNotFoundError, match="claims must be an existing file, got"):
        read_claims(tmp_path / name)


def test_a_file_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    def refused(file):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ValueError, match=r"can be read, got .* \(Permission denied\)"):
        read_claims(written(tmp_path, TEXT))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x89PNG\r\n", b"\x00"])
def test_a_binary_file_is_no_toml(tmp_path, content):
    (tmp_path / "claims.toml").write_bytes(content)

    with pytest.raises(ValueError, match="claims must be a TOML file, got"):
        read_claims(tmp_path / "claims.toml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "rise"}, "name a method of the run, got 'rise'.*--method"),
        ({"other": "rise"}, "name a method of the run, got 'rise'"),
        ({"model": "vgg16"}, "name a model of the run, got 'vgg16'.*--model"),
        ({"metric": "road"}, "name a metric of the run, got 'road'.*--metric"),
        ({"metric": "top_share"}, "must be higher or lower for top_share, of which"),
        ({"layer": "layer3"}, "which is explained at 'layer4'.*--layer"),
        ({"images": "test_*"}, "pattern 'test_\\*', which fits none"),
    ],
)
def test_a_claim_that_the_run_cannot_answer_is_refused(change, said):
    neutral = replace(CLAIM, metric="top_share", direction="higher")
    check_claims([CLAIM, neutral], RUN)

    with pytest.raises(ValueError, match=said):
        check_claims([replace(CLAIM, **change)], RUN)
