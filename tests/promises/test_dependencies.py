"""Imports run downwards: cli, benchmark, methods, attr and metrics, targets, _utils.

A metric knows no method and a method no metric; nothing imports the command line; and
no two files import each other, by whatever way round.
"""

import ast
from pathlib import Path

import pytest

import captum_iscam

ROOT = Path(captum_iscam.__file__).parent
# A room may import those on lower floors.
FLOORS = {
    "cli": 7,
    "benchmark": 6,
    "methods": 5,
    "attr": 4,
    "metrics": 4,
    "layers": 3,
    "transformers": 2,
    "targets": 2,
    "networks": 2,
    "demo": 2,
    "visualization": 2,
    "reshape_transforms": 1,
    "_utils": 0,
}
# The controls are attribution methods that metrics handed out first. They are imported
# when somebody asks for them by their old place.
EXCEPTIONS = {"metrics/__init__.py": "attr.controls"}


def imports_of(file):
    """The names of the package that a file imports, without the package's own."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "captum_iscam" and rest not in ("", "__version__"):
                yield rest


FILES = sorted(
    file for file in ROOT.rglob("*.py") if file.parent != ROOT or file.stem in FLOORS
)


def room_of(path):
    return path.partition("/")[0].removesuffix(".py")


def wrong_in(file):
    where = file.relative_to(ROOT).as_posix()
    room = room_of(where)
    for name in imports_of(file):
        other = name.partition(".")[0]
        if other == room or name.startswith(EXCEPTIONS.get(where, "no module")):
            continue
        if other not in FLOORS:  # a class that the top hands out
            yield f"{where} imports {name} from the top"
        elif FLOORS[other] >= FLOORS[room]:
            yield f"{where} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_a_file_imports_what_is_below_it(file):
    assert list(wrong_in(file)) == []


def module_of(name):
    """The file that an imported name is, or is defined in."""
    parts = name.split(".")
    while parts:
        for file in (ROOT.joinpath(*parts), ROOT.joinpath(*parts).with_suffix(".py")):
            if file.is_file():
                return file
            if (file / "__init__.py").is_file():
                return file / "__init__.py"
        parts.pop()
    return ROOT / "__init__.py"


def test_no_two_files_import_each_other():
    edges = {
        file: {module_of(name) for name in imports_of(file)} - {file}
        for file in ROOT.rglob("*.py")
        if file.name != "__init__.py"
    }
    done, path = set(), []

    def visit(file):
        assert file not in path, [p.name for p in [*path, file]]
        if file in done:
            return
        path.append(file)
        for other in sorted(edges.get(file, ())):
            visit(other)
        path.pop()
        done.add(file)

    for file in sorted(edges):
        visit(file)


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("metrics/robustness.py", "from captum_iscam.attr import RISE", "attr.RISE"),
        ("metrics/_base.py", "from captum_iscam import RISE", "RISE from the top"),
        ("attr/rise.py", "import captum_iscam.metrics", "metrics"),
        ("benchmark/run.py", "from captum_iscam.cli.output import say", "cli.output"),
        ("_utils/files.py", "from captum_iscam.networks import sha256", "networks"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, monkeypatch, file, line, said):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    broken = tmp_path / file
    broken.parent.mkdir()
    broken.write_text(f"def later():\n    {line}\n")

    (found,) = wrong_in(broken)

    assert said in found
