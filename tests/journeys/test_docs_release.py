"""A release needs a version that package, citation and changelog agree on."""

import importlib.util
from pathlib import Path

import pytest

import captum_iscam

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release_notes():
    path = ROOT / ".github" / "release_notes.py"
    spec = importlib.util.spec_from_file_location("release_notes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    (tmp_path / "captum_iscam").mkdir()
    (tmp_path / "captum_iscam" / "__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n- later\n\n"
        "## [1.2.0] - 2026-11-21\n\n### Added\n\n- a thing\n\n"
        "## [1.1.0] - 2026-01-01\n\n- older\n"
    )
    return tmp_path


def test_the_section_of_the_version_is_the_text(release_notes, root):
    assert release_notes.notes("1.2.0", root) == "### Added\n\n- a thing\n"


def test_another_version_of_the_package_is_refused(release_notes, root):
    with pytest.raises(ValueError, match=r"__init__\.py must say"):
        release_notes.notes("1.1.0", root)


def test_a_citation_of_another_version_is_refused(release_notes, root):
    (root / "CITATION.cff").write_text("version: 1.1.0\n")

    with pytest.raises(ValueError, match=r"CITATION\.cff must say version"):
        release_notes.notes("1.2.0", root)


@pytest.mark.parametrize(
    "changelog",
    [
        "## [Unreleased]\n\n- a thing\n",
        "## [1.2.0]\n\n- no date\n",
        "## [1.2.0] - 2026-11-21\n\n## [1.1.0] - 2026-01-01\n\n- older\n",
    ],
)
def test_a_changelog_without_the_version_is_refused(release_notes, root, changelog):
    (root / "CHANGELOG.md").write_text(changelog)

    with pytest.raises(ValueError, match=r"CHANGELOG\.md must have a section"):
        release_notes.notes("1.2.0", root)


def test_the_changelog_has_a_place_for_what_is_new():
    text = (ROOT / "CHANGELOG.md").read_text()

    assert "\n## [Unreleased]\n" in text
    assert (
        f"version: {captum_iscam.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    )
