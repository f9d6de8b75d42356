"""Each network is shown images of its own preprocessing."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from captum_iscam.benchmark.dataloader import load
from captum_iscam.benchmark.explained_models import load_explained_model
from captum_iscam.benchmark.sources import find_data
from captum_iscam.networks.preprocessing import Preprocessing


def shown(folder, *transforms):
    file = Path(folder) / "0" / "noise.png"
    file.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    known = load_explained_model("scene-net")
    models = []
    for transform in transforms:
        words = {"crop": None}
        if isinstance(transform, Preprocessing):
            words = transform.in_words()
        network = replace(known.network, transform=transform, preprocessing=words)
        models.append(replace(known, network=network))
    (loaded,) = load(find_data(folder).items, [0], models)
    return loaded


def test_networks_that_differ_in_interpolation_alone(tmp_path):
    own = Preprocessing(40, 32, (0.5,) * 3, (0.5,) * 3)

    loaded = shown(tmp_path, own, replace(own, interpolation="bicubic"), replace(own))

    first, second, third = loaded.preprocessed
    assert not torch.equal(first.inputs, second.inputs)
    assert third is first


def test_transforms_that_say_nothing_are_not_taken_for_each_other(tmp_path):
    loaded = shown(
        tmp_path, lambda _: torch.zeros(3, 8, 8), lambda _: torch.ones(1, 9, 9)
    )

    assert [tuple(p.inputs.shape) for p in loaded.preprocessed] == [
        (1, 3, 8, 8),
        (1, 1, 9, 9),
    ]


def test_a_transform_that_raises_or_moves_is_that_of_its_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def transform(image):
        os.chdir("/")
        raise KeyError("grey")

    loaded = shown(tmp_path, transform)

    assert loaded.error == "KeyError: 'grey'"
    assert loaded.preprocessed == []
    assert os.getcwd() == str(tmp_path)
