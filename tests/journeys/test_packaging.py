"""What the package is built from and into."""

import ast
import configparser
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from reference.ledger import EXTENDED

ROOT = Path(__file__).parents[2]
# The name to import where it is not that of the distribution.
IMPORTED = {"PIL": "pillow"}
# Imported where a file needs it, and an extra.
OPTIONAL = {"gradio", "safetensors"}


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def audit():
    return script("audit")


@pytest.fixture(scope="module")
def build():
    return script("build")


def required():
    """Returns each direct dependency with the rest of its line."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].strip().splitlines()
    named = (re.match(r"([\w-]+)([^;]*)", line) for line in lines)
    return dict(found.groups() for found in named)


def test_each_dependency_has_a_lower_bound_and_no_upper():
    for name, bounds in required().items():
        assert re.fullmatch(r">=[\d.]+", bounds), name


def test_the_lower_bounds_are_what_the_oldest_tests_run_at(ledger):
    text = (ROOT / ".ci" / "oldest.txt").read_text()
    pin = r"^([\w-]+)==([\d.]+)(?:; python_version < .*)?$"
    oldest = dict(re.findall(pin, text, re.MULTILINE))

    for name, bounds in required().items():
        lowest, tested = bounds.removeprefix(">="), oldest[name]
        assert tested == lowest or tested == f"{lowest}.0", name

    ledger.survived(
        "Supply",
        "The lower bound of a dependency is the version that the gate's oldest "
        "environment pins.",
        len(required()),
    )


def test_what_is_imported_is_required():
    found = set()
    for file in (ROOT / "captum_iscam").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    others = found - set(sys.stdlib_module_names) - {"captum_iscam"}

    assert others >= OPTIONAL
    others -= OPTIONAL
    assert {IMPORTED.get(name, name) for name in others} == required().keys()


def vulnerability(name, **more):
    return {"id": name, "aliases": [], "fixed_in": ["2.0"], "withdrawn": None, **more}


@pytest.mark.parametrize(
    ("entries", "bad", "said"),
    [
        ([], False, "torch 1.0: nothing known"),
        ([vulnerability("A-1")], True, "A-1: NOT LISTED, fixed in 2.0"),
        ([vulnerability("A-1", fixed_in=[])], True, "fixed in no version"),
        ([vulnerability("B-2")], False, "listed: not called"),
        ([vulnerability("C-3", aliases=["B-2"])], False, "listed: not called"),
        ([vulnerability("A-1", withdrawn="2026-01-01")], False, "nothing known"),
        ([vulnerability("B-2"), vulnerability("A-1")], True, "NOT LISTED"),
    ],
)
def test_a_known_vulnerability_fails_unless_it_is_listed(audit, entries, bad, said):
    listed = {"B-2": "not called"}

    found, fails = audit.about(
        "torch", "1.0", listed, lambda *_: {"vulnerabilities": entries}
    )

    assert fails == bad
    assert said in found


@pytest.mark.parametrize("answer", [OSError("no way"), {}, [], None, ValueError("<")])
def test_a_database_out_of_reach_is_said_and_fails_nothing(audit, answer):
    def ask(*_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    found, fails = audit.about("torch", "1.0", {}, ask)

    assert found.startswith("NOT CHECKED: torch 1.0 (")
    assert not fails


def test_a_listed_vulnerability_needs_a_reason(audit, tmp_path):
    file = tmp_path / "known.txt"
    file.write_text("# a comment\n\nA-1 the function is not called\n")
    assert audit.known(file) == {"A-1": "the function is not called"}
    file.write_text("A-1\n")

    with pytest.raises(ValueError, match="A-1 must have a reason"):
        audit.known(file)


def test_every_listed_vulnerability_has_a_reason(audit):
    audit.known(ROOT / ".ci" / "known_vulnerabilities.txt")

    assert audit.dependencies(ROOT / "setup.cfg") == list(required())


def archive(names, stamp, owner):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name in names:
            entry = tarfile.TarInfo(f"captum_iscam-1.0/{name}")
            entry.mtime, entry.uname, entry.uid, entry.size = stamp, owner, stamp, 1
            packed.addfile(entry, io.BytesIO(b"x"))
    return stream.getvalue()


def test_a_source_distribution_has_no_trace_of_who_built_it_and_when(build):
    mine = archive(["a.py", "b.py"], 1_000, "me")
    other = archive(["b.py", "a.py"], 2_000, "you")

    assert mine != other
    assert build.undated(mine, 500) == build.undated(other, 500)
    with tarfile.open(fileobj=io.BytesIO(build.undated(mine, 500))) as packed:
        assert packed.extractfile("captum_iscam-1.0/a.py").read() == b"x"
        assert {entry.mtime for entry in packed} == {500}


def test_what_an_archive_lacks_or_has_too_much_is_named(build, tmp_path):
    tracked = {"captum_iscam/a.py", "README.md"}
    source, wheel = tmp_path / "x.tar.gz", tmp_path / "x.whl"
    source.write_bytes(archive(["captum_iscam/a.py", "PKG-INFO", "key.pem"], 0, ""))
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("captum_iscam/a.py", "")
        packed.writestr("captum_iscam-1.0.dist-info/METADATA", "")

    said = build.difference(tracked, source)

    assert said == "lacks README.md and holds key.pem, which is not tracked"
    assert build.difference(tracked, wheel) == ""


@pytest.mark.skipif(not EXTENDED, reason="the gate builds them as a step of its own")
def test_two_builds_are_the_same_byte_for_byte(tmp_path, ledger):
    if shutil.which("twine") is None or not (ROOT / ".git").exists():
        pytest.skip("needs the extra release, and git")

    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "build.py", tmp_path / "dist"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "dist").iterdir())) == 2
    ledger.survived(
        "Supply",
        "Two builds of wheel and source are the same byte for byte, and hold what is "
        "tracked.",
        2,
    )
