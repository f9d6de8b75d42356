"""What the documentation of the benchmark says, done."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from captum_iscam.benchmark.metric_registry import METRICS
from captum_iscam.benchmark.sources import find_data
from captum_iscam.benchmark.storage import Row
from captum_iscam.cli.main import main
from captum_iscam.cli.parser import METHODS, PRESETS, make_parser
from captum_iscam.methods import find_methods

DOCS = Path(__file__).parents[2] / "docs"
# The page on the command, and the page on its data.
PAGE = "".join(
    (DOCS / name).read_text("utf-8") for name in ("benchmark.md", "benchmark_data.md")
)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands():
    """Every command on the page and in the help, as words after the program's name."""
    texts = [*blocks("bash"), *blocks("text"), _help()]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    found = [
        re.search(r"(?:captum-iscam|-m captum_iscam) (benchmark.*)", x) for x in lines
    ]
    return [m[1] for m in found if m and "usage" not in m.string and "[" not in m[1]]


def _help():
    choices = make_parser()._subparsers._group_actions[0].choices
    return choices["benchmark"].format_help()


def test_the_page_has_its_commands():
    assert len(commands()) >= 6


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    args = make_parser().parse_args(shlex.split(line))

    assert args.command == "benchmark"
    assert find_methods(args.method or METHODS)


def test_the_command_and_the_code_that_reads_it_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line,) = blocks("bash")
    (code,) = blocks("python")

    assert main(shlex.split(line)[1:]) == 0
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    means = dict(row.split() for row in done.stdout.splitlines())
    assert set(means) == {"grad-cam", "random-map", "center-map", "channel-mean"}
    assert float(means["grad-cam"]) > float(means["random-map"])
    written = {file.name for file in (tmp_path / "first-benchmark").iterdir()}
    assert all(name in PAGE for name in written - {".captum-iscam.lock"})


def test_the_tables_on_the_page_are_read(tmp_path):
    labels, boxes = (b for b in blocks("text") if b.startswith("file,"))
    (tmp_path / "labels.csv").write_text(labels)
    (tmp_path / "boxes.csv").write_text(boxes)
    for name in ("one.jpg", "two.jpg", "one_mask.png"):
        Image.new("RGB", (298, 256)).save(tmp_path / name)

    data = find_data(tmp_path)

    data.check_regions()
    assert {item.id: item.label for item in data.items} == {
        "one.jpg": 281,
        "two.jpg": 207,
    }
    assert all(item.has_regions for item in data.items)


def test_the_row_on_the_page_is_a_row():
    (text,) = blocks("json")

    assert Row(**json.loads(text)).metric == "insertion"


def test_every_option_is_on_the_page():
    options = set(re.findall(r"--[a-z-]+", _help())) - {"--help", "--nproc-per-node"}

    assert {name for name in options if name not in PAGE} == set()


def test_the_presets_name_what_there_is():
    for preset in PRESETS.values():
        assert find_methods(preset["method"])
        assert set(preset["metric"].split(",")) <= set(METRICS)
        assert {part.split("=")[0] for part in preset["layer"].split(",")} == set(
            preset["model"].split(",")
        )
