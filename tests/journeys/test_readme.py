"""The README's first example draws, and its tables are those of the package."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_example_draws_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]

    exec(compile(example, "README.md", "exec"), {})

    assert (tmp_path / "scene.png").stat().st_size > 10_000


def test_every_public_method_is_in_the_table():
    import captum_iscam

    missing = [
        name
        for name in captum_iscam.__all__
        if not name.startswith("_") and f"`{name}`" not in README
    ]

    assert missing == []
