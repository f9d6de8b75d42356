"""Files that a host reads say what the package says."""

import configparser
import json
import re
from pathlib import Path

import pytest
import yaml

import captum_iscam
from captum_iscam._utils.about import AUTHORS, TITLE, URL

ROOT = Path(__file__).parents[2]
VERSION = captum_iscam.__version__
# Names of a package on conda-forge, where they differ from PyPI's.
ON_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
URL_OF_PROJECT = re.compile(r"https://[\w./-]*/captum_iscam\b")


def read_yaml(path):
    return yaml.safe_load((ROOT / path).read_text())


@pytest.fixture(scope="module")
def setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


@pytest.mark.parametrize(
    "path",
    [
        ".zenodo.json",
        "docs/llms.txt",
        "tools/captum_issue.md",
        "tools/conda/recipe.yaml",
        "tools/space/README.md",
    ],
)
def test_the_address_is_that_of_the_package(path):
    found = set(URL_OF_PROJECT.findall((ROOT / path).read_text()))

    assert found == {URL}


def test_zenodo_is_told_what_the_citation_file_says():
    deposit = json.loads((ROOT / ".zenodo.json").read_text())
    citation = read_yaml("CITATION.cff")

    assert deposit["title"] == citation["title"] == TITLE
    assert deposit["description"] == citation["abstract"]
    assert deposit["version"] == citation["version"] == VERSION
    assert deposit["license"] == citation["license"]
    assert deposit["keywords"] == citation["keywords"]
    assert deposit["creators"] == citation["authors"] == [{"name": AUTHORS}]
    assert deposit["upload_type"] == citation["type"]


def test_zenodo_is_told_of_the_papers_of_the_citation_file():
    deposit = json.loads((ROOT / ".zenodo.json").read_text())
    papers = [paper["url"] for paper in read_yaml("CITATION.cff")["references"]]

    ids = [
        entry["identifier"].removeprefix("arXiv:")
        for entry in deposit["related_identifiers"]
        if entry["scheme"] == "arxiv"
    ]

    assert [f"https://arxiv.org/abs/{name}" for name in ids] == papers


def conda_name(line):
    """Returns a line of setup.cfg as conda-forge names it."""
    name, bound = re.match(r"([\w-]+)(>=[\d.]+)", line).groups()
    return f"{ON_CONDA.get(name, name)} {bound}"


def test_the_conda_recipe_requires_what_the_package_requires(setup_cfg):
    recipe = read_yaml("tools/conda/recipe.yaml")
    lines = setup_cfg["options"]["install_requires"].strip().splitlines()

    python, *others = recipe["requirements"]["run"]

    assert python == "python >=${{ python_min }}"
    oldest = recipe["context"]["python_min"]
    assert setup_cfg["options"]["python_requires"] == f">={oldest}"
    assert others == [conda_name(line) for line in lines]


def test_the_conda_recipe_builds_with_what_the_package_builds_with():
    text = (ROOT / "pyproject.toml").read_text()
    host = read_yaml("tools/conda/recipe.yaml")["requirements"]["host"]

    (backend,) = re.findall(r'^requires = \["(.+)"\]$', text, re.MULTILINE)

    assert backend in [line.replace(" ", "") for line in host]


def test_the_conda_recipe_names_this_version_and_command(setup_cfg):
    recipe = read_yaml("tools/conda/recipe.yaml")
    metadata = setup_cfg["metadata"]

    assert recipe["context"]["version"] == VERSION
    assert recipe["package"]["name"] == metadata["name"]
    assert recipe["about"]["license"] == metadata["license"]
    assert recipe["about"]["summary"] == metadata["description"]
    assert (ROOT / recipe["about"]["license_file"]).is_file()
    (command,) = recipe["build"]["python"]["entry_points"]
    assert command in setup_cfg["options.entry_points"]["console_scripts"]


def test_the_answer_to_captum_has_the_measured_figures():
    measured = (ROOT / "experiments" / "results" / "scenes.md").read_text()
    draft = (ROOT / "tools" / "captum_issue.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+ \|.+) \|$", draft, re.MULTILINE)

    assert len(rows) == 4
    for method, numbers in rows:
        (line,) = re.findall(rf"^\| {method} \| (.+) \|$", measured, re.MULTILINE)
        drop, insertion, deletion, _, pointing, passes, _ = line.split(" | ")
        shown = [drop, insertion, deletion, pointing, passes]
        assert numbers.split(" | ") == shown


def test_read_the_docs_builds_what_the_gate_builds():
    settings = read_yaml(".readthedocs.yaml")
    gate = (ROOT / ".ci" / "run").read_text()

    (command,) = settings["build"]["jobs"]["build"]["html"]
    same = command.replace('"$READTHEDOCS_OUTPUT/html"', '"$work/html"')

    assert f"{same}\n" in gate
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()
    (install,) = settings["python"]["install"]
    assert install["extra_requirements"] == ["docs"]


def test_the_site_serves_a_short_text_for_language_models():
    text = (ROOT / "docs" / "llms.txt").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)

    pages = [(ROOT / "docs" / link).with_suffix(".md") for link in links]

    assert links
    assert [str(page) for page in pages if not page.is_file()] == []
    settings = (ROOT / "docs" / "conf.py").read_text()
    assert 'html_extra_path = ["llms.txt"]' in settings


def test_the_text_for_language_models_names_every_class():
    text = (ROOT / "docs" / "llms.txt").read_text()

    for name in captum_iscam.__all__:
        assert name == "__version__" or f"`{name}`" in text, name


def test_the_code_for_language_models_runs():
    text = (ROOT / "docs" / "llms.txt").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    space = {}

    exec(compile(block, "llms.txt", "exec"), space)

    assert space["heat_map"].shape == (1, 1, *space["inputs"].shape[2:])


def test_the_space_has_what_a_hub_reads(setup_cfg):
    folder = ROOT / "tools" / "space"
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    settings = yaml.safe_load(front)

    assert (folder / settings["app_file"]).is_file()
    assert settings["sdk"] == "gradio"
    gradio = setup_cfg["options.extras_require"]["app"].strip()
    assert int(settings["sdk_version"].split(".")[0]) >= int(gradio.split(">=")[1])
    assert f":: {settings['python_version']}" in setup_cfg["metadata"]["classifiers"]
    assert settings["license"] == setup_cfg["metadata"]["license"].lower()
    assert len(settings["short_description"]) <= 60
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert requirements[-1] == "captum_iscam[app]"


def test_the_badges_say_what_the_package_says(setup_cfg):
    badges = re.findall(
        r"img.shields.io/badge/([\w.%-]+)-blue", (ROOT / "README.md").read_text()
    )
    metadata = setup_cfg["metadata"]
    oldest = setup_cfg["options"]["python_requires"].removeprefix(">=")

    licence = metadata["license"].replace("-", "--")

    assert badges == [f"licence-{licence}", f"python-{oldest}%2B", "typed-yes"]
    assert "py.typed" in setup_cfg["options.package_data"]["captum_iscam"]
