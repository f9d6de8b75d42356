"""A release needs a version that package, citation and changelog agree on."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

import captum_iscam

ROOT = Path(__file__).parents[2]


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def script(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def release_notes():
    return script(".github/release_notes.py")


@pytest.fixture(scope="module")
def release():
    return script(".ci/release.py")


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


def workflow_of(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def jobs_of(name):
    return workflow_of(name)["jobs"]


def commands_of(job):
    text = "\n".join(step.get("run", "") for step in job["steps"])
    return [shlex.split(line) for line in text.splitlines() if line]


def test_a_tag_builds_by_the_script_then_publishes_then_announces():
    jobs = jobs_of("release.yml")

    commands = commands_of(jobs["build"])
    assert ["bash", ".ci/run"] in commands
    assert ["python", ".ci/release.py", "$GITHUB_REF_NAME", "dist"] in commands
    assert jobs["pypi"]["needs"] == "build"
    assert jobs["github"]["needs"] == "pypi"


def test_only_the_publishing_job_can_sign_and_it_holds_no_token():
    jobs = jobs_of("release.yml")

    may_sign = [
        n for n, job in jobs.items() if "id-token" in job.get("permissions", "")
    ]
    publish = jobs["pypi"]["steps"][-1]
    assert may_sign == ["pypi"]
    assert publish["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert publish["with"]["attestations"] is True
    assert not publish["with"].keys() & {"user", "password"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_version(workflow):
    steps = [step for job in jobs_of(workflow.name).values() for step in job["steps"]]

    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", action), action


def test_the_gate_runs_on_each_change_and_makes_a_release_that_keeps_nothing():
    assert ["bash", ".ci/run"] in commands_of(jobs_of("check.yml")["check"])
    assert "python .ci/release.py --dry-run" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "words", [[], ["v1.2.3"], ["--dry-run", "v1.2.3"], ["--dry-run", "v1.2.3", "dist"]]
)
def test_a_release_needs_a_tag_and_a_folder_or_a_dry_run(release, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["release.py", *words])

    with pytest.raises(SystemExit) as ended:
        release.main()

    assert ended.value.code == 2


def test_a_tag_of_another_version_is_not_built(release, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["release.py", "v99.0.0", str(tmp_path / "dist")])

    with pytest.raises(SystemExit, match=r"release_notes\.py 99\.0\.0 failed"):
        release.main()

    assert not (tmp_path / "dist").exists()


def test_a_tag_without_v_is_refused(release):
    with pytest.raises(SystemExit, match=r"must be v and a version, got 1\.2\.3"):
        release.check_tag("1.2.3")


def test_an_archive_of_another_version_is_not_published(release, tmp_path):
    for name in ("captum_iscam-1.0-py3-none-any.whl", "captum_iscam-1.0.tar.gz"):
        (tmp_path / name).touch()

    assert release.wheel_of(tmp_path, "1.0").suffix == ".whl"
    with pytest.raises(SystemExit, match="Empty it first"):
        release.wheel_of(tmp_path, "1.1")


def test_a_demo_without_pictures_is_an_error(release, monkeypatch, tmp_path):
    monkeypatch.setattr(release, "run", lambda *words, **more: None)
    monkeypatch.setattr(release.venv, "create", lambda *words, **more: None)

    with pytest.raises(SystemExit, match="wrote no picture"):
        release.try_wheel(tmp_path / "x.whl", tmp_path)


def test_the_version_is_read_without_an_import(release):
    assert release.package_version() == captum_iscam.__version__
