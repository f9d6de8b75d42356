"""The README's example runs as it stands, and its links lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_draws_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]

    exec(compile(example, "README.md", "exec"), {})

    assert (tmp_path / "scene.png").stat().st_size > 10_000


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)

    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]

    assert "LICENSE" in targets
    assert missing == []


def test_every_public_method_is_in_the_table():
    import captum_iscam

    missing = [
        name
        for name in captum_iscam.__all__
        if not name.startswith("_") and f"`{name}`" not in README
    ]

    assert missing == []
