import csv
import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms._presets import ImageClassification

from captum_iscam._utils.files import sha256
from captum_iscam._utils.images import read_image
from captum_iscam.cli.demo import SHOWN
from captum_iscam.cli.explain import TargetChoice
from captum_iscam.cli.main import main
from captum_iscam.cli.output import Names
from captum_iscam.methods import METHODS
from captum_iscam.networks import load_classifier
from captum_iscam.networks.predictions import predict

NAME = "squeezenet1_1"
LAYER = "features.3.squeeze"  # 16 channels


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = get_model(NAME, weights=None, num_classes=7)
    file = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save({key: value.half() for key, value in model.state_dict().items()}, file)
    return file


@pytest.fixture
def photo(tmp_path):
    """Writes a picture and returns its file."""

    def write(name="photo.png", mode="RGB", size=(90, 70)):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4))
        Image.fromarray(noise.astype(np.uint8), "RGBA").convert(mode).save(file)
        return file

    return write


@pytest.fixture(autouse=True)
def small_inputs(monkeypatch):
    """Shows the networks pictures of 64 pixels, for speed."""

    def load(*arguments, **options):
        network = load_classifier(*arguments, **options)
        transform = ImageClassification(crop_size=64, resize_size=72)
        said = {**network.preprocessing, "resize": 72, "crop": 64}
        return replace(network, transform=transform, preprocessing=said)

    monkeypatch.setattr("captum_iscam.cli.explain.load_classifier", load)


@pytest.fixture
def explain(weights, tmp_path):
    """Runs the command on files and returns its exit code; output goes to "out"."""

    def run(*arguments, model=NAME, file=weights, method="grad-cam"):
        given = ["--model", model, "--weights", file, "--method", method]
        words = ["explain", *arguments, *given, "--out", tmp_path / "out"]
        return main([str(word) for word in words])

    return run


def record_of(tmp_path, name="photo"):
    return json.loads((tmp_path / "out" / name / "record.json").read_text("utf-8"))


def test_explain_writes_a_picture_the_maps_and_a_record(
    explain, photo, weights, tmp_path, capsys
):
    methods = "is-cam,ss-cam,grad-cam"
    options = ["--layer", LAYER, "--n-samples", "2", "--seed", "5", "--target", "top2"]

    code = explain(photo(), *options, "--batch-size", "16", method=methods)

    assert code == 0
    out = tmp_path / "out"
    written = {"photo", "index.html", ".captum-iscam.lock"}
    assert {file.name for file in out.iterdir()} == written
    files = {"overlay.png", "maps.npz", "record.json", "page"}
    assert {file.name for file in (out / "photo").iterdir()} == files
    record = record_of(tmp_path)
    assert record["model"] == NAME
    assert record["layer"] == LAYER
    assert record["weights"]["name"] == weights.name
    assert len(record["weights"]["sha256"]) == 64
    assert record["image_size"] == [90, 70]
    assert record["input_shape"] == [3, 64, 64]
    assert set(record["versions"]) >= {"captum", "captum_iscam", "torch", "torchvision"}
    assert [t["class_name"] for t in record["targets"]] == [
        f"class {t['index']}" for t in record["targets"]
    ]
    first, second = (t["probability"] for t in record["targets"])
    assert 1 > first >= second > 0
    maps = record["maps"]
    assert [m["method"] for m in maps] == methods.split(",") * 2
    assert all(m["seconds"] > 0 and m["forward_passes"] > 0 for m in maps)
    assert maps[1]["settings"]["n_samples"] == 2
    assert maps[1]["settings"]["seed"] == 5
    assert maps[0]["settings"]["internal_batch_size"] == 16
    with np.load(out / "photo" / "maps.npz") as arrays:
        assert {m["map"] for m in maps} == set(arrays)
        assert all(list(arrays[m["map"]].shape) == m["map_shape"] for m in maps)
        assert all((arrays[name] >= 0).all() for name in arrays)
    with Image.open(out / "photo" / "overlay.png") as picture:
        # Two classes under each other, the input and three maps side by side.
        assert picture.width > 1.3 * picture.height
    shown = capsys.readouterr().out
    assert f"layer {LAYER} (given)" in shown
    assert str(out / "photo" / "overlay.png") in shown


def test_all_targets_share_a_call_of_each_method_and_the_record_says_so(
    explain, photo, tmp_path, capsys, monkeypatch
):
    clock = SimpleNamespace(perf_counter=itertools.count(step=10).__next__)
    monkeypatch.setattr("captum_iscam.cli.record.time", clock)

    def run(target):
        words = ("--layer", LAYER, "--target", target)
        explain(photo(), *words, method="score-cam,grad-cam")
        # Ten seconds for each call, whatever the number of its maps.
        assert ", 20.0 s -> " in capsys.readouterr().out
        with np.load(tmp_path / "out" / "photo" / "maps.npz") as arrays:
            return record_of(tmp_path), dict(arrays)

    record, together = run("top3")
    indices = [t["index"] for t in record["targets"]]
    record_of_last, alone = run(indices[2])

    maps, single = record["maps"], record_of_last["maps"]
    assert [m["method"] for m in maps] == ["score-cam", "grad-cam"] * 3
    assert [m["target"] for m in maps[::2]] == indices
    assert [m["target"] for m in maps[1::2]] == indices
    assert {m["targets_explained_together"] for m in maps} == {3}
    assert {m["targets_explained_together"] for m in single} == {1}
    assert {m["seconds"] for m in (*maps, *single)} == {10}
    score_cam, grad_cam = (m["forward_passes"] for m in single)
    assert [m["forward_passes"] for m in maps] == [score_cam, grad_cam] * 3
    for name, expected in alone.items():
        assert expected.max() > 0
        np.testing.assert_allclose(together[name], expected, rtol=1e-4, atol=1e-7)


def test_a_warning_about_some_of_the_targets_is_said_once_with_their_classes(
    explain, photo, tmp_path, capsys
):
    words = ("--layer", LAYER, "--target", "top3")
    explain(photo(), *words, method="score-cam,grad-cam")

    record, said = record_of(tmp_path), capsys.readouterr().err
    names = [t["class_name"] for t in record["targets"]]
    with np.load(tmp_path / "out" / "photo" / "maps.npz") as arrays:
        empty = [
            t["class_name"]
            for t in record["targets"]
            if not arrays[f"score-cam_{t['index']}"].any()
        ]
    warned = [m["warnings"] for m in record["maps"]]
    assert len(empty) == 2
    assert warned == [warned[0], []] * 3
    (zero,) = warned[0]
    assert f"everywhere for {', '.join(empty)}: " in zero
    assert said.count(zero) == 1
    assert f"{photo()}, Score-CAM, {', '.join(names)}: {zero}" in said


def test_the_default_layer_is_said(explain, photo, tmp_path, capsys):
    explain(photo())

    assert "layer features (the last with a spatial" in capsys.readouterr().out
    assert record_of(tmp_path)["layer"] == "features"
    assert not record_of(tmp_path)["layer_given"]


def test_two_runs_give_the_same_maps(explain, photo, tmp_path):
    maps = []
    for _ in range(2):
        explain(photo(), "--layer", LAYER, "--n-samples", 2, method="ss-cam")
        with np.load(tmp_path / "out" / "photo" / "maps.npz") as arrays:
            maps.append(next(iter(arrays.values())))

    np.testing.assert_array_equal(*maps)


def test_autocast_runs_the_network_in_bfloat16_and_says_so(explain, photo, tmp_path):
    maps = []
    for words, dtype in (([], "float32"), (["--autocast"], "bfloat16 autocast")):
        explain(photo(), "--layer", LAYER, *words, method="score-cam,grad-cam")
        assert record_of(tmp_path)["dtype"] == dtype
        with np.load(tmp_path / "out" / "photo" / "maps.npz") as arrays:
            assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
            maps.append(np.concatenate([*arrays.values()]))

    assert not np.array_equal(*maps)
    np.testing.assert_allclose(*maps, atol=0.1 * np.abs(maps[0]).max())


def test_the_number_of_random_masks_is_taken(explain, photo, tmp_path):
    explain(photo(), "--n-masks", 6, method="rise")

    # The input alone, and next to a baseline and a faint one, which is scored twice.
    assert record_of(tmp_path)["maps"][0]["forward_passes"] == 6 + 5


def test_a_plugin_adds_a_method(explain, photo, tmp_path):
    plugin = tmp_path / "my_plugin.py"
    plugin.write_text(
        "from captum_iscam.attr import LayerScoreCAM\n"
        "from captum_iscam.methods import Method, register_method\n"
        "register_method('mine', Method('Mine', LayerScoreCAM))\n"
    )
    words = ("--layer", LAYER, "--plugin", plugin)

    try:
        code = explain(photo(), *words, method="mine")
    finally:
        METHODS.pop("mine")

    assert code == 0
    record = record_of(tmp_path)
    assert record["plugins"] == {"my_plugin.py": sha256(plugin)}
    assert [m["method"] for m in record["maps"]] == ["mine"]


def test_the_deviation_of_the_noise_is_taken(explain, photo, tmp_path):
    for words in ([], ["--stdevs", 0]):
        explain(photo(), "--n-samples", 2, *words, method="ss-cam,smooth-grad-cam++")
        maps = record_of(tmp_path)["maps"]
        found = [m["settings"]["stdevs"] for m in maps]
        rule = "(2 / range)**2 of the masked input"
        assert found == ([0, 0] if words else [rule, 0.3])

    with np.load(tmp_path / "out" / "photo" / "maps.npz") as arrays:
        noisy = next(arrays[name] for name in arrays if name.startswith("ss-cam"))
    explain(photo(), method="score-cam")
    with np.load(tmp_path / "out" / "photo" / "maps.npz") as arrays:
        (plain,) = arrays.values()
    np.testing.assert_allclose(noisy, plain, rtol=1e-4, atol=1e-6)


def test_the_share_of_the_channels_is_taken(explain, photo, tmp_path):
    passes = []
    for share in (1, 0.25):
        explain(photo(), "--screening", share, method="score-cam")
        (found,) = record_of(tmp_path)["maps"]
        assert found["settings"]["screening"] == share
        # Less those of the input, the baseline, the input next to it, and a faint one.
        passes.append(found["forward_passes"] - 5)

    assert passes[1] == round(passes[0] / 4)


@pytest.mark.parametrize("text", ["0", "1.1", "-1", "nan", "much"])
def test_a_share_that_is_none_is_refused(explain, photo, text, capsys):
    code = explain(photo(), f"--screening={text}")

    assert code == 2
    assert "--screening" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much"])
def test_a_deviation_that_is_none_is_refused(explain, photo, text, capsys):
    code = explain(photo(), f"--stdevs={text}")

    assert code == 2
    assert "--stdevs" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_named_and_the_next_one_explained(
    explain, photo, tmp_path, capsys
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    short = photo("short.png")
    short.write_bytes(short.read_bytes()[:200])

    code = explain(tmp_path / "gone.jpg", broken, short, photo("good.png"))

    errors = capsys.readouterr().err
    assert code == 1
    assert f"{tmp_path / 'gone.jpg'}: cannot be read: No such file" in errors
    assert f"{broken}: cannot be read: " in errors
    assert f"{short}: cannot be read: " in errors
    assert errors.rstrip().endswith("3 of 4 images failed.")
    assert (tmp_path / "out" / "good" / "record.json").exists()


def test_images_of_one_name_do_not_overwrite_each_other(explain, photo, tmp_path):
    files = [photo("a/cat.png"), photo("b/cat.png", size=(50, 80))]

    explain(*files)

    first, second = record_of(tmp_path, "cat"), record_of(tmp_path, "cat-2")
    assert [first["image"], second["image"]] == [str(file) for file in files]


def test_names_are_never_the_same_and_never_lead_out_of_the_folder():
    stems = ["x", "x", "X", "x-2", "y", "..", ".", " ", ".x", "INDEX.html"]
    expected = ["x", "x-2", "X-3", "x-2-2", "y"]
    expected += ["image", "image-2", "image-3", "x-4", "INDEX.html-2"]
    names = Names()

    assert [names.free(stem) for stem in stems] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "squeezenet9"}, r"got 'squeezenet9'. Close to it: squeezenet1_"),
        ({"file": "gone.pt"}, "weights must be DEFAULT or an existing file, got 'gone"),
        ({"method": "is-cam,magic"}, "got 'magic'. Known are: is-cam, ss-cam"),
    ],
)
def test_what_is_unknown_lists_what_exists(explain, photo, capsys, change, message):
    code = explain(photo(), **change)

    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layer", "featurs"), "got 'featurs'. Take one of features"),
        (("--layer", "classifier.3"), "Those that have: features"),
        (("--target", "dog"), "got 'dog'. Classes begin with: class 0 (0)"),
        (("--target", "7"), "target must be an index from 0 to 6, got 7"),
        (("--target", "top9"), "target must be top1 to top7, got 'top9'"),
        (("--device", "toaster"), "device must be one that this computer has, got 't"),
        (("--n-samples", "0"), "must be an integer of at least 1, got '0'"),
        (("--batch-size", "two"), "must be an integer of at least 1, got 'two'"),
    ],
)
def test_wrong_arguments_are_refused(explain, photo, capsys, arguments, message):
    code = explain(photo(), *arguments)

    assert code == 2
    assert message in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_refused(
    explain, photo, tmp_path, capsys
):
    (tmp_path / "out").write_text("a file")

    assert explain(photo()) == 2
    assert "out must be a folder that can be made" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written_is_refused(
    explain, photo, monkeypatch, capsys
):
    monkeypatch.setattr("os.access", lambda *_: False)

    assert explain(photo()) == 2
    assert "out must be a folder that can be written" in capsys.readouterr().err


def test_a_picture_that_cannot_be_explained_is_named(
    explain, photo, monkeypatch, capsys
):
    def fails(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("captum_iscam.cli.record.explain", fails)

    assert explain(photo()) == 1
    printed, errors = capsys.readouterr()
    assert f"{photo()}: cannot be explained: out of memory" in errors
    assert "1 of 1 images failed." in errors
    assert "results are in" not in printed


def test_what_a_method_warns_of_is_told_and_recorded(explain, photo, tmp_path, capsys):
    # So strong is the noise for a network that knows nothing.
    explain(photo(), "--layer", LAYER, "--n-samples", 1, method="ss-cam")

    warned = record_of(tmp_path)["maps"][0]["warnings"]
    assert warned
    assert f"{photo()}, SS-CAM, class " in capsys.readouterr().err


def test_an_error_while_writing_ends_the_run(explain, photo, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez_compressed", full)

    assert explain(photo(), photo("other.png")) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_a_target_is_a_name_an_index_or_the_most_probable():
    classes = ["tabby", "tiger cat", "goose"]
    prediction = predict(torch.tensor([0.2, 5.0, 3.0]), None)

    def found(wanted):
        return [t.class_name for t in TargetChoice(wanted, classes).of(prediction)]

    assert found(None) == ["tiger cat"]
    assert found("top2") == ["tiger cat", "goose"]
    assert found("Tabby") == ["tabby"]
    assert found("2") == ["goose"]
    with pytest.raises(ValueError, match=r"Close to it: tiger cat \(1\)"):
        TargetChoice("cat", classes)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pictures_of_any_kind_are_read_as_rgb(tmp_path, mode):
    grey = np.full((20, 30), 128, np.uint8)
    file = tmp_path / ("photo.tif" if mode in ("CMYK", "I;16") else "photo.png")
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(file)
    else:
        Image.fromarray(grey).convert(mode).save(file)

    image = read_image(file)

    assert image.mode == "RGB"
    assert image.size == (30, 20)
    assert np.asarray(image).mean() == pytest.approx(128, abs=4)


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")

    assert read_image(tmp_path / "clear.png").getpixel((3, 3)) == (255, 255, 255)


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    image = Image.new("RGB", (30, 20), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # turn right by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)

    assert read_image(tmp_path / "turned.jpg").size == (20, 30)


def test_demo_finds_the_objects_without_a_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("captum_iscam.cli.demo._N_SAMPLES", 1)
    monkeypatch.setattr("captum_iscam.cli.demo.load_scenes", few_scenes)

    code = main(["demo", "--out", str(tmp_path / "demo")])

    assert code == 0
    names = {file.name for file in (tmp_path / "demo").iterdir()}
    assert {
        "scene_0",
        "index.html",
        "table.md",
        "table.csv",
        ".captum-iscam.lock",
    } == names
    with (tmp_path / "demo" / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * len(SHOWN)
    assert all(0 <= float(row["overlap"]) <= 1 for row in rows)
    assert all(0 < float(row["kept"]) < 1 for row in rows)
    certain = [row for row in rows if row["method"] == "Integrated Grad-CAM"]
    assert all(row["on_object"] == "True" for row in certain)
    # The two objects share the calls, and each has half of what they cost.
    maps = json.loads(
        (tmp_path / "demo" / "scene_0" / "record.json").read_text("utf-8")
    )["maps"]
    for row, one in zip(rows, maps, strict=True):
        assert float(row["passes"]) == one["forward_passes"] / 2
        assert float(row["seconds"]) == pytest.approx(one["seconds"] / 2, abs=1e-4)
    shown = capsys.readouterr().out
    assert "| mean by method" in shown
    assert str(tmp_path / "demo") in shown


def few_scenes():
    from captum_iscam.demo import load_scenes

    return load_scenes()[:1]


def test_help_and_mistakes_have_their_exit_codes(capsys):
    assert main(["--help"]) == 0
    assert main(["explain", "--help"]) == 0
    assert main([]) == 2
    assert main(["explain", "photo.jpg"]) == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999999", "x"])
def test_a_seed_that_is_none_is_a_mistake(seed, capsys):
    assert main(["demo", "--seed", seed]) == 2
    assert "--seed" in capsys.readouterr().err


def test_a_device_without_memory_is_a_mistake(tmp_path, capsys):
    code = main(
        [
            "explain",
            "a.jpg",
            "--model",
            "resnet18",
            "--device",
            "meta",
            "--out",
            str(tmp_path),
        ]
    )

    assert code == 2
    assert "device must be one that this computer has" in capsys.readouterr().err
