"""What `captum-iscam explain` draws and writes with each of its options."""

import json
from dataclasses import replace

import numpy as np
import pytest
from journeys.explaining import NAME, photographs, whole_results
from PIL import Image

from captum_iscam.cli.main import main
from captum_iscam.networks import load_classifier


@pytest.fixture
def explain(weights, tmp_path):
    """Explains what is given into "out" by Grad-CAM; returns the exit code."""

    def run(*words, method="grad-cam"):
        given = ["--model", NAME, "--weights", weights, "--method", method]
        words = ["explain", *words, *given, "--out", tmp_path / "out"]
        return main([str(word) for word in words])

    return run


@pytest.fixture
def files_of(tmp_path):
    """Returns the files of an image, but for those of the page and the arrays."""

    def named(name="0"):
        files = (tmp_path / "out" / name).iterdir()
        return {f.name for f in files} - {"page", "maps.npz", "record.json"}

    return named


def test_a_folder_is_explained_with_a_page_of_all(explain, tmp_path, capsys):
    photographs(tmp_path / "photographs", 2)
    photographs(tmp_path / "photographs" / "inner", 1)

    assert explain(tmp_path / "photographs") == 0
    assert explain("--recursive", tmp_path / "photographs") == 0

    assert whole_results(tmp_path / "out").keys() == {"0", "1", "0-2"}
    page = tmp_path / "out" / "index.html"
    assert f"Open {page} in a browser." in capsys.readouterr().out
    assert page.read_text().count('"model":"squeezenet1_1"') == 3


def test_a_folder_without_images_is_one_line(explain, tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    assert explain(tmp_path / "empty") == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("without any. Name another folder.")
    assert not (tmp_path / "out").exists()


def test_the_results_in_the_folder_of_photographs_are_no_photographs(
    explain, weights, tmp_path
):
    (file,) = photographs(tmp_path / "out", 1)

    codes = [explain("--recursive", tmp_path / "out") for _ in range(2)]

    assert codes == [0, 0]
    records = whole_results(tmp_path / "out")
    assert [record["image"] for record in records.values()] == [str(file)]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("panels", ["together", "separate"])
def test_pictures_have_the_format_and_are_together_or_separate(
    explain, files_of, tmp_path, panels, kind
):
    files = photographs(tmp_path, 1)
    methods = "grad-cam,grad-cam++"

    explain(*files, "--panels", panels, "--format", kind, method=methods)

    (index,) = (t["index"] for t in whole_results(tmp_path / "out")["0"]["targets"])
    each = {f"overlay_{m}_{index}.{kind}" for m in methods.split(",")}
    assert files_of() == (each if panels == "separate" else {f"overlay.{kind}"})
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for name in files_of():
        content = (tmp_path / "out" / "0" / name).read_bytes()
        assert content.startswith(starts[kind])


def test_separate_pictures_are_exactly_as_large_as_the_input(
    explain, files_of, tmp_path
):
    explain(*photographs(tmp_path, 1), "--panels", "separate")

    (name,) = files_of()
    with Image.open(tmp_path / "out" / "0" / name) as picture:
        assert picture.size == (224, 224)


def test_the_original_photograph_keeps_its_size_and_what_the_model_did_not_see(
    explain, files_of, tmp_path
):
    file = tmp_path / "wide.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3))
    Image.fromarray(noise.astype(np.uint8)).save(file)

    explain(file, "--original")

    (name,) = files_of("wide") - {"overlay.png"}
    assert name.startswith("original_grad-cam_")
    with Image.open(tmp_path / "out" / "wide" / name) as picture:
        drawn = np.asarray(picture)
    assert drawn.shape == noise.shape
    assert (drawn[:, :90] == noise[:, :90]).all()
    assert (drawn != noise).any()
    (found,) = whole_results(tmp_path / "out")["wide"]["maps"]
    assert found["original"] == name


def test_a_transform_that_is_not_known_is_drawn_by_its_range_and_has_no_original(
    explain, files_of, tmp_path, capsys, monkeypatch
):
    unknown = dict.fromkeys(("resize", "crop", "mean", "std"))

    def load(*arguments, **options):
        network = load_classifier(*arguments, **options)
        return replace(network, preprocessing=unknown)

    monkeypatch.setattr("captum_iscam.cli.explain.load_classifier", load)

    assert explain(*photographs(tmp_path, 1), "--original") == 0

    assert files_of() == {"overlay.png"}
    assert "--original is ignored: how this" in capsys.readouterr().err


def test_resolution_colours_and_opacity_are_chosen(explain, tmp_path):
    files = photographs(tmp_path, 1)

    def drawn(*words):
        assert explain(*files, *words) == 0
        with Image.open(tmp_path / "out" / "0" / "overlay.png") as picture:
            return np.asarray(picture)

    usual, small = drawn(), drawn("--dpi", "60")
    others = [drawn("--cmap", "turbo"), drawn("--alpha", "0.3")]

    assert small.shape[0] == pytest.approx(usual.shape[0] / 2, abs=1)
    assert all((other != usual).any() for other in others)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cmap", "magic"], "cmap must be the name of a colour map of matplotlib"),
        (["--alpha", "1.5"], "must be from 0 to 1, got '1.5'"),
        (["--dpi", "0"], "must be an integer from 20 to 2400, got '0'"),
        (["--dpi", "19"], "must be an integer from 20 to 2400, got '19'"),
        (["--dpi", "1000000"], "must be an integer from 20 to 2400, got"),
        (["--panels", "none"], "--panels"),
        (["--format", "gif"], "--format"),
    ],
)
def test_what_cannot_be_drawn_is_said_at_the_start(
    explain, tmp_path, capsys, words, message
):
    assert explain(*photographs(tmp_path, 1), *words) == 2
    assert message in capsys.readouterr().err


def test_the_defaults_take_seconds(weights, tmp_path, monkeypatch):
    files = photographs(tmp_path, 1)
    words = ["explain", *files, "--model", NAME, "--weights", weights]

    def load(*arguments, **options):
        network = load_classifier(*arguments, **options)
        network.model.features = network.model.features[:4]
        network.model.classifier[1] = type(network.model.classifier[1])(128, 3, 1)
        return replace(network, model=network.model.eval())

    monkeypatch.setattr("captum_iscam.cli.explain.load_classifier", load)
    assert main([str(w) for w in [*words, "--out", tmp_path / "out"]]) == 0

    record = json.loads((tmp_path / "out" / "0" / "record.json").read_bytes())
    used = [entry["method"] for entry in record["maps"]]
    assert used == ["is-cam", "score-cam", "integrated-grad-cam", "grad-cam"]
