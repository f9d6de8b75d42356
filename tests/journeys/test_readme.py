"""The README's first example draws, and its tables are those of the package."""

import re
from pathlib import Path

import torch
from PIL import Image
from torchvision.models import get_model

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_example_draws_a_picture(tmp_path, monkeypatch):
    """With random weights in the place of those that torchvision downloads."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (300, 250), "orange").save("cat.jpg")
    torch.manual_seed(0)
    torch.save(get_model("squeezenet1_1").state_dict(), "weights.pt")
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    asked = 'load_classifier("resnet18")'
    assert asked in example
    example = example.replace(asked, 'load_classifier("squeezenet1_1", "weights.pt")')

    exec(compile(example, "README.md", "exec"), {})

    assert (tmp_path / "is_cam.png").stat().st_size > 10_000


def test_it_is_read_in_a_minute_and_a_half():
    """A screen and a half."""
    assert len(README.splitlines()) <= 120


def test_every_public_method_is_in_the_table():
    import captum_iscam

    missing = [
        name
        for name in captum_iscam.__all__
        if not name.startswith("_") and f"`{name}`" not in README
    ]

    assert missing == []
