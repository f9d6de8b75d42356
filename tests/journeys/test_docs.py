"""What the pages say runs as it stands, and covers all that is public."""

import copy
import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from reference.documented_networks import (
    SmallDetector,
    create_small_timm,
    get_small_model,
    load_small_classifier,
    small_densenet,
)

import captum_iscam
from captum_iscam import networks
from captum_iscam.cli.parser import make_parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUILT = ("_build", "tutorials")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(
        page
        for page in sorted(DOCS.rglob("*.md"))
        if page.relative_to(DOCS).parts[0] not in BUILT
    ),
    ROOT / "tools" / "captum_issue.md",
]
# Reached through the command line, whose options are documented.
COMMANDS = {"benchmark", "cli"}
MODULES = [
    "captum_iscam",
    *(
        f"captum_iscam.{module.name}"
        for module in pkgutil.iter_modules(captum_iscam.__path__)
        if not module.name.startswith("_") and module.name not in COMMANDS
    ),
]
CLASSIC = (
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
    "ignore:channel_softmax",
)

# Tables that an example may add to.
REGISTERED_IN = (
    "captum_iscam.methods.METHODS",
    "captum_iscam.benchmark.metric_registry.METRICS",
    "captum_iscam.benchmark.sources.READERS",
    "captum_iscam.benchmark.report.page.EXTRA_TABS",
)


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    text = page.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# These go on from a benchmark that has run; test_benchmark_docs.py runs one for them.
AFTER_A_BENCHMARK = ("benchmark.md", "reading_a_benchmark.md")
WITH_PYTHON = [
    page
    for page in PAGES
    if blocks(page, "python") and page.name not in AFTER_A_BENCHMARK
]


def public_names(module):
    """The names of a module: those it lists, or those it defines."""
    listed = getattr(module, "__all__", None)
    return listed or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]


PUBLIC = [
    (name, public)
    for name in MODULES
    for public in public_names(importlib.import_module(name))
    if not public.startswith("__")
]
# Constants and aliases hold values; they have no docstring of their own.
DESCRIBED = [
    (module, name)
    for module, name in PUBLIC
    if inspect.isroutine(value := getattr(importlib.import_module(module), name))
    or inspect.isclass(value)
    or hasattr(value, "__wrapped__")
]


@pytest.mark.filterwarnings(*CLASSIC)
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_examples_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.models, "get_model", get_small_model)
    monkeypatch.setattr(networks, "load_classifier", load_small_classifier)
    if "import timm" in page.read_text():
        pytest.importorskip(
            "transformers", reason="NOT TESTED: guides; transformers is missing"
        )
        timm = pytest.importorskip("timm", reason="NOT TESTED: guides; timm is missing")
        monkeypatch.setattr(timm, "create_model", create_small_timm)
    if "from monai" in page.read_text():
        nets = pytest.importorskip(
            "monai.networks.nets", reason="NOT TESTED: 3-D networks; MONAI is missing"
        )
        monkeypatch.setattr(nets, "DenseNet121", small_densenet)
    monkeypatch.setattr(torch, "compile", lambda model: model)  # needs a C++ compiler
    for table in REGISTERED_IN:
        module, _, name = table.rpartition(".")
        entries = getattr(importlib.import_module(module), name)
        monkeypatch.setattr(table, copy.copy(entries))
    for script in blocks(page, "js"):
        name, _, _ = script.removeprefix("// ").partition("\n")
        (tmp_path / name).write_text(script)
    for table in blocks(page, "toml"):
        name, _, _ = table.removeprefix("# ").partition("\n")
        (tmp_path / name).write_text(table)
    torchvision.utils.save_image(torch.rand(3, 48, 40), "cat.jpg")
    space = {"images": torch.rand(2, 3, 32, 32), "classes": [0, 1], "torch": torch}
    space["__file__"] = str(tmp_path / "page.py")
    space["detector"] = SmallDetector().eval()

    for block in blocks(page, "python"):
        exec(compile(block, name_of(page), "exec"), space)

    maps = space.get("attributions", torch.zeros(1))
    maps = maps if isinstance(maps, torch.Tensor) else maps[0]
    assert torch.isfinite(maps).all()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_are_commands(page):
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    commands = re.findall(r"captum-iscam ((?:explain|demo|benchmark)[^&|#\n]*)", text)

    for command in commands:
        make_parser().parse_args(shlex.split(command))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_table_has_as_many_columns_below_its_heading(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    tables = re.findall(r"^(\|.*\|)\n(\|[-:| ]+\|)$", prose, flags=re.MULTILINE)

    for heading, line in tables:
        cells = re.sub(r"\\\||`[^`]*`", "", heading)
        assert cells.count("|") == line.count("|"), heading


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)

    missing = [
        link
        for link in links
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert missing == []


def test_a_tile_of_the_gallery_has_a_small_picture_a_title_and_a_line():
    text = (DOCS / "gallery.md").read_text()
    tile = r"^- \[!\[.+?\]\((\S+)\) \*\*.+?\*\*\]\(\S+\)\n  \S"
    shown = [DOCS / path for path in re.findall(tile, text, re.MULTILINE)]

    assert len(shown) == len(re.findall("^- ", text, re.MULTILINE))
    assert sorted(shown) == sorted((DOCS / "images" / "gallery").iterdir())
    for path in shown:
        with Image.open(path) as picture:
            width, height = picture.size
        assert width <= 640
        assert 3 * width == 4 * height
        assert path.stat().st_size < 80_000


def test_blocks_are_in_a_language_that_is_checked():
    known = {"python", "bash", "bibtex", "text", "console", "csv", "json", "ini", "js"}
    known |= {"toml"}
    marks = {
        (name_of(page), mark)
        for page in PAGES
        for mark in re.findall(r"^```(\w+)$", page.read_text(), re.MULTILINE)
    }

    assert [(page, mark) for page, mark in sorted(marks) if mark not in known] == []


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_is_on_a_page_of_the_api(module, name):
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    # What one module hands on from another is documented where it comes from.
    if name in importlib.import_module("captum_iscam.attr").__all__:
        module = "captum_iscam.attr"
    if module == "captum_iscam.transformers":
        module = "captum_iscam.layers"

    assert re.search(rf":: {re.escape(module)}\.{name}$", text, re.MULTILINE)


@pytest.mark.parametrize(("module", "name"), DESCRIBED)
def test_a_public_name_has_an_example(module, name):
    value = getattr(importlib.import_module(module), name)

    described = [value, *vars(value).values()] if inspect.isclass(value) else [value]

    # Values that others take, such as Options, may be shown where they are taken.
    elsewhere = inspect.getsource(inspect.getmodule(value))
    shown = re.search(rf"^ +>>> .*\b{name}\(", elsewhere, re.MULTILINE)
    assert shown or any(">>>" in (inspect.getdoc(part) or "") for part in described)


def test_the_api_names_nothing_that_is_gone():
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))

    for path in re.findall(r"^\.\. auto\w+:: (\S+)$", text, re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


@pytest.mark.parametrize("command", ["explain", "app"])
def test_every_option_of_the_command_line_is_on_its_page(command):
    text = (DOCS / "command_line.md").read_text()
    actions = make_parser()._subparsers._group_actions[0].choices[command]._actions

    options = [o for action in actions for o in action.option_strings if o[1] == "-"]

    assert [o for o in options if o != "--help" and f"`{o}" not in text] == []


def test_the_layers_in_the_table_are_the_ones_of_the_families():
    from promises.test_families import LAYERS

    text = (DOCS / "networks.md").read_text()

    for family, layer in LAYERS.items():
        if family != "vit":  # the small one has fewer blocks
            assert f"`{layer}`" in text, family


FRONT = re.compile(r"^---\nmyst:\n  html_meta:\n    description: (.+)\n---\n\n# (.+)\n")


SEARCHED_PARTS = ("api", "methods", "metrics", "results", "troubleshooting")
FOUND_BY_SEARCH = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page.parent in (DOCS, *(DOCS / part for part in SEARCHED_PARTS))
]


@pytest.mark.parametrize("page", FOUND_BY_SEARCH, ids=name_of)
def test_a_page_has_a_title_and_a_description_that_a_search_shows(page):
    if page.name == "changelog.md":
        pytest.skip("is the changelog of the repository")

    found = FRONT.match(page.read_text())

    assert found, "a page begins with myst's html_meta and a title"
    assert 50 <= len(found[1].strip('"')) <= 160


def test_what_people_search_for_is_in_a_description_or_title():
    fronts = [FRONT.match(page.read_text()) for page in DOCS.rglob("*.md")]
    text = " ".join(f"{found[1]} {found[2]}" for found in fronts if found)

    for words in (
        "Score-CAM for PyTorch",
        "Captum",
        "CAM for ViT",
        "faithfulness metrics",
        "Grad-CAM",
        "3-D",
        "class activation map",
    ):
        assert words in text, words


def test_the_version_is_the_same_everywhere():
    version = captum_iscam.__version__

    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"Version {version}" in (DOCS / "citing.md").read_text()
