"""The address, the authors and the version are the same everywhere."""

import configparser
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import captum_iscam
from captum_iscam._utils.about import AUTHORS, TITLE, URL, bibtex, citation

ROOT = Path(__file__).parents[3]
VERSION = captum_iscam.__version__

needs_repository = pytest.mark.skipif(
    not (ROOT / "CITATION.cff").is_file(), reason="only in the repository"
)


def test_a_citation_names_authors_title_version_and_address():
    for text in (citation("1.2.3"), bibtex("1.2.3").replace("\\_", "_")):
        for part in (AUTHORS, TITLE, "1.2.3", URL):
            assert part in text


@needs_repository
def test_the_metadata_of_the_package_agree():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    metadata = config["metadata"]

    assert metadata["url"] == URL
    assert metadata["author"] == AUTHORS
    assert f"Source = {URL}" in metadata["project_urls"]


@needs_repository
def test_the_citation_file_agrees():
    text = (ROOT / "CITATION.cff").read_text()

    for line in (
        f"repository-code: {URL}",
        f"  - name: {AUTHORS}",
        f'title: "{TITLE}"',
        f"version: {VERSION}",
    ):
        assert re.search(f"^{re.escape(line)}$", text, re.MULTILINE)


@needs_repository
@pytest.mark.parametrize("name", ["README.md", "docs/citing.md"])
def test_the_docs_have_the_entry_that_reports_print(name):
    assert bibtex(VERSION) in (ROOT / name).read_text()


@needs_repository
@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("tutorials/*.ipynb")), ids=lambda path: path.stem
)
def test_a_tutorial_links_to_itself_and_installs_from_the_address(path):
    cells = json.loads(path.read_text())["cells"]
    first, install = ("".join(cell["source"]) for cell in cells[:2])
    # Colab opens what is on GitHub, where the path is owner and name.
    colab = "https://colab.research.google.com/github"
    place = f"{urlsplit(URL).path}/blob/main/tutorials/{path.name}"

    assert f"[Open in Colab]({colab}{place})" in first
    assert f"%pip install -q git+{URL}" in install
