"""The command as a whole: what it writes, resumes and refuses."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image
from reference.benchmark_runs import METHODS, METRICS, command, result, rows, run

from captum_iscam._utils.files import LOCK
from captum_iscam.benchmark import storage
from captum_iscam.benchmark.evaluation import CachedExplainer
from captum_iscam.cli.main import main
from captum_iscam.cli.parser import PRESETS
from captum_iscam.demo import CLASSES, load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS as TABLE
from captum_iscam.methods import Method
from captum_iscam.metrics import average_drop, insertion, pointing_game


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    code, said = run(folder)
    assert code == 0, said
    return folder


def photographs(folder, count=3, classes=CLASSES):
    """Writes scenes into a folder per class and returns where."""
    for number, scene in enumerate(load_scenes()[:count]):
        file = folder / classes[scene.labels[0]] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = (scene.image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file)
    return folder


def test_every_image_method_and_metric_has_one_row(finished):
    found = rows(finished)

    record = storage.read_run(finished)
    expected = {
        (image["id"], "scene-net", method, metric)
        for image in record["data"]["images"]
        for method in METHODS.split(",")
        for metric in (*METRICS.split(","), *storage.COSTS)
    }
    assert {tuple(key) for key in found} == expected
    assert len(record["data"]["images"]) == 3
    assert all(row.error is None for row in found.values())
    assert all(row.value is not None for row in found.values())


def test_values_are_those_of_the_metrics_themselves(finished):
    model, found = load_network(), rows(finished)
    image = storage.read_run(finished)["data"]["images"][0]["id"]
    scene = load_scenes()[int(image.removeprefix("scene_"))]
    inputs = preprocess(scene.image)
    probabilities = model(inputs)[0].softmax(0)
    target = int(probabilities.argmax())
    maps = TABLE["grad-cam"].attribute(model, model.features, inputs, target)
    mask = scene.masks[scene.labels.index(target)].unsqueeze(0)
    curves = insertion(model, inputs, maps, target, steps=4, return_curves=True)

    values = {
        key.metric: row.value
        for key, row in found.items()
        if (key.image, key.method) == (image, "grad-cam")
    }
    row = found[storage.Key(image, "scene-net", "grad-cam", "insertion")]

    halved = average_drop(model, inputs, maps, target, keep=0.5)
    assert values["average_drop"] == halved.item()
    assert values["insertion"] == curves.auc.item()
    assert values["pointing_game"] == pointing_game(maps, mask).item()
    assert (values["forward_passes"], values["backward_passes"]) == (2, 1)
    assert values["seconds"] > 0
    assert (row.target, row.prediction) == (target, target)
    assert row.probability == pytest.approx(probabilities[target].item())
    assert row.group == CLASSES[row.label]
    written = {curve.key: curve for curve in storage.read_curves(finished)}[row.key]
    assert written.fractions == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert written.scores == pytest.approx(curves.scores[0].tolist())


def test_the_record_holds_what_repeats_the_run(finished):
    record = storage.read_run(finished)

    assert record["command"] == ["captum-iscam", *command(finished)]
    assert set(record["versions"]) >= {"python", "torch", "captum", "captum_iscam"}
    model = record["models"]["scene-net"]
    assert model["layer"] == "features"
    assert len(model["sha256"]) == 64
    labelled = {
        (row.image, row.prediction == row.label) for row in rows(finished).values()
    }
    assert model["top1"] == sum(right for _, right in labelled) / 3
    shown = {str(row.target) for row in rows(finished).values()}
    assert shown <= model["class_names"].keys()
    page = (finished / "report.html").read_text()
    for index, name in model["class_names"].items():
        assert name == CLASSES[int(index)]
        assert f'"{index}":"{name}"' in page
    steps = record["metrics"]["insertion"]["settings"]
    assert (steps["steps"], steps["substrate"], steps["score"]) == (
        4,
        "zero",
        "softmax",
    )
    assert record["metrics"]["average_drop"]["higher_is_better"] is False
    assert record["methods"]["random-map"]["settings"]["seed"]


def test_pictures_are_small_and_where_the_record_says(finished):
    for image in storage.read_run(finished)["data"]["images"]:
        with Image.open(storage.image_file(finished, image["key"])) as thumbnail:
            assert max(thumbnail.size) == 96
        for method in METHODS.split(","):
            file = storage.map_file(finished, "scene-net", method, image["key"])
            with Image.open(file) as picture:
                assert (picture.size, picture.mode) == ((112, 112), "L")
                assert picture.getextrema()[1] == 255


def test_a_second_run_adds_nothing(finished):
    before = {f: f.read_bytes() for f in finished.glob("*/rank0.jsonl")}

    code, _ = run(finished)

    assert code == 0
    assert {f: f.read_bytes() for f in finished.glob("*/rank0.jsonl")} == before


def test_a_torn_row_is_dropped_and_made_again(finished, tmp_path):
    run(tmp_path)
    file = storage.rank_file(tmp_path, storage.ROWS, 0)
    whole = file.read_bytes()
    # What a kill can leave: half of the rows, and a part of the next.
    file.write_bytes(whole[: len(whole) // 2])
    curves = storage.rank_file(tmp_path, storage.CURVES, 0)
    curves.write_bytes(curves.read_bytes()[:-20])
    torn = next((tmp_path / storage.MAPS).rglob("*.png"))
    torn.with_name(f".captum-iscam.{torn.name}.0.part").write_bytes(b"torn")

    code, _ = run(tmp_path)

    assert code == 0
    assert result(tmp_path) == result(finished)


def test_only_the_missing_rows_are_made(finished, tmp_path, monkeypatch):
    run(tmp_path)
    file = storage.rank_file(tmp_path, storage.ROWS, 0)
    lines = file.read_bytes().splitlines(keepends=True)
    lost = next(line for line in lines if b'"center-map","metric":"insertion"' in line)
    file.write_bytes(b"".join(line for line in lines if line != lost))
    made = []
    attribute = Method.attribute

    def spy(method, *args):
        made.append(method.title)
        return attribute(method, *args)

    monkeypatch.setattr(Method, "attribute", spy)

    run(tmp_path)

    assert made == ["Centre map"]
    assert file.read_bytes().splitlines(keepends=True)[-1] == lost
    assert result(tmp_path) == result(finished)


def test_rows_do_not_depend_on_the_other_images(finished, tmp_path):
    chosen = {image["id"] for image in storage.read_run(finished)["data"]["images"]}

    run(tmp_path, "--samples", "8")

    all_rows, few = rows(tmp_path), rows(finished)
    assert {key.image for key in all_rows} > chosen
    for key, row in few.items():
        if key.metric != "seconds":
            assert all_rows[key] == row


def test_another_seed_makes_other_noise(tmp_path, finished):
    run(tmp_path, "--seed", "1", "--samples", "8")

    def random_maps(folder):
        return {
            key.image: row.value
            for key, row in rows(folder).items()
            if (key.method, key.metric) == ("random-map", "sparseness")
        }

    ours, theirs = random_maps(finished), random_maps(tmp_path)
    assert all(ours[image] != theirs[image] for image in ours)
    assert len(set(theirs.values())) == 8


@pytest.mark.parametrize(
    ("words", "name", "old", "new"),
    [
        (["--steps", "5"], "metrics.insertion.settings.steps", "4", "5"),
        (["--seed", "3"], "seed", "0", "3"),
        (["--samples", "4"], "data.samples", "3", "4"),
        (["--method", "grad-cam"], "methods.names", "'random-map'", "['grad-cam']"),
        (["--target-class", "true"], "settings.target_class", "'predicted'", "'true'"),
        (["--autocast"], "settings.dtype", "'float32'", "'bfloat16 autocast'"),
        (["--layer", "features.9"], "models.scene-net.layer", "'features'", "9'"),
    ],
)
def test_another_setting_is_refused(finished, words, name, old, new):
    code, said = run(finished, *words)

    assert code == 2
    assert "out must be a folder of the same experiment" in said
    assert f"{name} is " in said
    before, now = said.split(", now ")
    assert old in before
    assert new in now


def test_other_labels_are_refused(tmp_path):
    data = photographs(tmp_path / "photographs", 1)
    name = next(data.rglob("*.png")).relative_to(data)
    words = ["--data", data, "--model", "scene-net", "--samples", "1"]
    words += ["--metric", "sparseness", "--method", "center-map"]
    (data / "labels.csv").write_text(f"file,class_index\n{name},3\n")
    assert run(tmp_path / "out", *words)[0] == 0
    (data / "labels.csv").write_text(f"file,class_index\n{name},4\n")

    code, said = run(tmp_path / "out", *words)

    assert code == 2
    assert "data.labels is [3], now [4]" in said


@pytest.mark.parametrize("changed", ["box", "mask", "picture"])
def test_other_pictures_boxes_or_masks_are_refused(tmp_path, changed):
    data = photographs(tmp_path / "photographs", 1)
    file = next(data.rglob("*.png"))
    name = file.relative_to(data)
    with Image.open(file) as picture:
        mask = Image.new("L", picture.size, 255)
    mask.save(data / "mask.png")
    (data / "labels.csv").write_text(f"file,class_index,mask\n{name},3,mask.png\n")
    boxes = f"file,class_index,x0,y0,x1,y1\n{name},3,0,0,9,{{}}\n"
    (data / "boxes.csv").write_text(boxes.format(9))
    words = ["--data", data, "--model", "scene-net", "--samples", "1"]
    words += ["--metric", "sparseness", "--method", "center-map"]
    assert run(tmp_path / "out", *words)[0] == 0
    assert run(tmp_path / "out", *words)[0] == 0

    if changed == "box":
        (data / "boxes.csv").write_text(boxes.format(8))
    elif changed == "mask":
        mask.point(lambda value: 0).save(data / "mask.png")
    else:
        with Image.open(file) as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)
    code, said = run(tmp_path / "out", *words)

    assert code == 2
    assert f"whose data.digests.{name} is" in said


def test_a_damaged_row_is_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    file = storage.rank_file(tmp_path / "out", storage.ROWS, 0)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], b"\0" * 40 + b"\n", *lines[4:]]))

    code, said = run(tmp_path / "out")

    assert code == 2
    assert "out must be a folder with unchanged rows" in said
    assert "rank0.jsonl" in said
    file.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    assert run(tmp_path / "out")[0] == 0
    assert rows(tmp_path / "out").keys() == rows(finished).keys()


def test_what_changes_no_result_is_not_refused(finished):
    code, _ = run(finished, "--internal-batch-size", "3", "--note", "x", "--workers", 1)

    assert code == 0


def test_rows_without_a_record_are_refused(finished, tmp_path):
    file = storage.rank_file(tmp_path, storage.ROWS, 0)
    file.parent.mkdir()
    file.write_bytes(storage.rank_file(finished, storage.ROWS, 0).read_bytes())

    code, said = run(tmp_path)

    assert code == 2
    assert "where it has no run.json" in said
    assert "with rows. Choose" in said


@pytest.mark.parametrize("name", ["summary.md", "report.html", "report_data"])
def test_what_another_program_made_is_not_written_over(tmp_path, name):
    (tmp_path / name).write_text("mine")

    code, said = run(tmp_path)

    assert code == 2
    assert f"with {name}. Choose another" in said
    assert (tmp_path / name).read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} <= {name, LOCK}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 50000,
        b"[]",
        b"7",
        b"{}",
        b'{"models": 3}',
        b'{"models": {"a": 1}}',
        b"\xff",
    ],
    ids=range(8),
)
def test_a_record_of_another_program_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text)

    code, said = run(tmp_path)

    assert code == 2
    assert "whose run.json is that of a benchmark" in said
    assert (tmp_path / "run.json").read_bytes() == text


def test_an_unreadable_image_is_a_row(tmp_path):
    data = photographs(tmp_path / "photographs")
    (data / CLASSES[0]).mkdir(exist_ok=True)
    (data / CLASSES[0] / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"

    code, _ = run(out, "--data", data, "--model", "scene-net", "--samples", "4",
                  "--metric", "sparseness")  # fmt: skip

    assert code == 0
    found = rows(out)
    broken = found[storage.Key(f"{CLASSES[0]}/broken.jpg", None, None, None)]
    assert "identify" in broken.error
    assert (broken.value, broken.model) == (None, None)
    assert len({key.image for key in found}) == 4
    assert sum(key.image == broken.image for key in found) == 1
    before = rows(out)
    assert run(out, "--data", data, "--model", "scene-net", "--samples", "4",
               "--metric", "sparseness")[0] == 0  # fmt: skip
    assert rows(out) == before


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, IndexError, TypeError])
def test_a_method_that_fails_is_an_error_of_its_rows(tmp_path, monkeypatch, kind):
    attribute = Method.attribute

    def fail(method, *args):
        if method.title == "Grad-CAM":
            raise kind("the model gave NaN\nin pass 3")
        return attribute(method, *args)

    monkeypatch.setattr(Method, "attribute", fail)

    code, said = run(tmp_path, "--samples", "1")

    assert code == 1
    assert "scene-net, grad-cam: every image has an error" in said
    for key, row in rows(tmp_path).items():
        if key.method == "grad-cam":
            assert row.error == f"{kind.__name__}: the model gave NaN in pass 3"
            assert row.value is None
        else:
            assert row.error is None


def test_a_model_that_gives_nan_is_an_error_of_its_rows(tmp_path, monkeypatch):
    def broken(*_):
        return torch.full((1, 10), math.nan)

    monkeypatch.setattr("captum_iscam.demo.network.SceneNet.forward", broken)
    monkeypatch.setattr(
        "captum_iscam.benchmark.explained_models.default_layer",
        lambda model, _: ("features", model.features),
    )

    code, _ = run(tmp_path, "--samples", "1")

    assert code == 1
    errors = {(row.error, row.target, row.value) for row in rows(tmp_path).values()}
    said = "RuntimeError: the model gives NaN or infinity for the unmasked image"
    assert errors == {(said, None, None)}
    assert len(rows(tmp_path)) == 3 * 8


def test_a_reader_that_ends_ends_the_run(tmp_path, monkeypatch):
    def lost(*_):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr("captum_iscam.benchmark.evaluation.Evaluator.image", lost)

    code, said = run(tmp_path)

    assert code == 1
    assert "with fewer --workers" in said


def test_a_note_can_come_later(tmp_path):
    words = ["--samples", "1", "--method", "center-map", "--metric", "sparseness"]
    run(tmp_path, *words)

    run(tmp_path, *words, "--note", "one", "--note", "two")
    run(tmp_path, *words)

    assert storage.read_run(tmp_path)["notes"] == ["one", "two"]
    assert "two" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("text", ["CUDA error: device-side assert", "out of memory"])
def test_a_device_that_fails_ends_the_run_without_a_row(tmp_path, monkeypatch, text):
    def fail(method, *args):
        raise RuntimeError(text)

    monkeypatch.setattr(Method, "attribute", fail)

    code, said = run(tmp_path)

    assert code == 1
    assert text in said
    assert "All rows are kept" in said
    assert not rows(tmp_path)


def test_a_metric_without_a_value_is_null(tmp_path):
    # A constant map of zeros has no drop to speak of, NaN maps have no value at all.
    data = photographs(tmp_path / "photographs", 1)
    (data / "labels.csv").write_text(
        f"file,class_index\n{next(data.rglob('*.png')).relative_to(data)},3\n"
    )
    (data / "boxes.csv").write_text(
        f"file,class_index,x0,y0,x1,y1\n"
        f"{next(data.rglob('*.png')).relative_to(data)},9,0,0,5,5\n"
    )

    run(tmp_path / "out", "--data", data, "--model", "scene-net", "--samples", "1",
        "--metric", "pointing_game,sparseness", "--target-class", "true")  # fmt: skip

    found = rows(tmp_path / "out").values()
    pointing = [row for row in found if row.metric == "pointing_game"]
    # The box is of class 9, the map of class 3.
    assert [(row.value, row.error, row.target) for row in pointing] == [
        (None, None, 3)
    ] * 3


def test_further_and_sanity_metrics_run(tmp_path):
    names = "coherency,adcc,sensitivity_max,target_sensitivity"
    metric = f"{names},parameter_randomization,road_most_relevant_first"

    run(tmp_path, "--metric", metric, "--samples", "1", "--method", "grad-cam")

    values = {key.metric: row.value for key, row in rows(tmp_path).items()}
    assert set(values) == {*metric.split(","), *storage.COSTS}
    assert all(math.isfinite(value) for value in values.values())
    assert 0 < values["adcc"] < 1
    assert values["target_sensitivity"] > 0


@pytest.mark.parametrize(("method", "calls"), [("grad-cam", 2), ("occlusion", 3)])
def test_two_classes_are_one_question_where_the_method_takes_both(
    tmp_path, monkeypatch, method, calls
):
    asked, attribution = [], TABLE[method].attribution
    attribute = attribution.attribute

    def counted(self, *positional, **arguments):
        asked.append(arguments["target"])
        return attribute(self, *positional, **arguments)

    monkeypatch.setattr(attribution, "attribute", counted)
    words = ["--metric", "target_sensitivity", "--samples", "1", "--method", method]

    code, said = run(tmp_path, *words)

    assert code == 0, said
    # The map, and the maps of its class and of another.
    assert len(asked) == calls
    (value,) = (
        row.value
        for row in rows(tmp_path).values()
        if row.key.metric == "target_sensitivity"
    )
    assert value > 0


def test_several_targets_are_not_answered_with_the_map_of_one():
    asked = []

    def explain(inputs, target):
        asked.append(target)
        return inputs.new_tensor(target).view(1, -1, 1, 1)

    remembering, image = CachedExplainer(explain), torch.ones(1, 1, 2, 2)
    targets = [3, [[3, 5]], [[3, 6]], [[3, 6]], 3]

    maps = [remembering(image, target=target) for target in targets]

    assert [m.flatten().tolist() for m in maps] == [[3], [3, 5], [3, 6], [3, 6], [3]]
    # Of two equal questions in a row the second is remembered.
    assert asked == [3, [[3, 5]], [[3, 6]], 3]


def test_the_model_is_as_before_the_sanity_checks(tmp_path):
    words = ["--samples", "2", "--method", "grad-cam"]
    run(tmp_path / "a", *words, "--metric", "parameter_randomization,insertion")
    run(tmp_path / "b", *words, "--metric", "insertion")

    both = [
        {
            k.image: r.value
            for k, r in rows(tmp_path / name).items()
            if k.metric == "insertion"
        }
        for name in "ab"
    ]
    assert both[0] == both[1]


def test_the_class_to_explain_is_the_true_one_on_request(tmp_path):
    run(tmp_path, "--target-class", "true", "--samples", "8", "--method", "center-map")

    found = rows(tmp_path).values()
    assert all(row.target == row.label for row in found)
    assert all(r.value is not None for r in found if r.metric == "pointing_game")


def test_bfloat16_changes_little(finished, tmp_path):
    run(tmp_path, "--autocast")

    theirs = rows(tmp_path)
    differences = [
        abs(row.value - theirs[key].value)
        for key, row in rows(finished).items()
        if key.metric == "insertion"
    ]
    assert 0 < max(differences) < 0.05
    assert storage.read_run(tmp_path)["settings"]["dtype"] == "bfloat16 autocast"


def test_workers_change_nothing(tmp_path):
    data = photographs(tmp_path / "photographs")
    words = ["--data", data, "--model", "scene-net", "--metric", "insertion"]

    run(tmp_path / "none", *words, "--workers", "0")
    code, said = run(tmp_path / "two", *words, "--workers", "2")

    assert code == 0, said
    assert result(tmp_path / "two") == result(tmp_path / "none")


def test_the_preset_without_data_runs_offline(tmp_path):
    words = ["--preset", "poster", "--method", "center-map", "--out", str(tmp_path)]

    code = main(["benchmark", *words, "--steps", "2"])

    assert code == 0
    record = storage.read_run(tmp_path)
    assert list(record["models"]) == ["scene-net"]
    assert len(record["data"]["images"]) == 8
    asked = set(record["metrics"]) - set(storage.COSTS)
    drops = {"average_drop_plain", "average_increase_plain"}
    assert asked == {*drops, "insertion", "deletion"}


def test_warnings_are_said_once_with_what_they_are_about(tmp_path, capsys):
    words = ["--samples", "4", "--method", "ss-cam", "--metric", "sparseness"]
    code = main(command(tmp_path, *words, "--n-samples", "2", "--stdevs", "50"))

    said = capsys.readouterr().err
    assert code == 0
    assert said.count("The noise leaves no channel") == 1
    assert ", scene-net, ss-cam: The noise" in said


def test_a_preset_takes_models_and_samples_of_your_own(tmp_path, monkeypatch):
    data = photographs(tmp_path / "data")
    known = {**PRESETS["poster"], "layer": "vgg16=features,scene-net=features.6"}
    monkeypatch.setitem(PRESETS, "poster", known)
    words = ["benchmark", "--preset", "poster", "--method", "center-map", "--data"]
    words += [str(data), "--model", "scene-net", "--steps", "2", "--out", str(tmp_path)]

    assert main(words) == 0

    record = storage.read_run(tmp_path)
    assert record["models"]["scene-net"]["layer"] == "features.6"
    assert len(record["data"]["images"]) == 3
    assert main([*words, "--samples", "2000"]) == 2


def test_files_that_are_all_missing_are_said_at_the_start(tmp_path):
    (tmp_path / "labels.csv").write_text("file\na.png\nb.png\n")
    words = ["--data", tmp_path, "--model", "scene-net", "--samples", "2"]

    code, said = run(tmp_path / "out", *words, "--metric", "sparseness")

    assert code == 2
    assert "data must name files that exist, got 2 that do not" in said
    assert "a.png" in said


def test_masks_of_no_known_class_answer_no_metric(tmp_path):
    data = photographs(tmp_path / "data", 1)
    name = next(data.rglob("*.png")).relative_to(data)
    (data / "labels.csv").write_text(f"file,mask\n{name},{name}\n")
    words = ["--data", data, "--model", "scene-net", "--samples", "1"]

    code, said = run(tmp_path / "out", *words, "--metric", "mask_iou")

    assert code == 2
    assert "mask_iou" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "3", "--data", "nowhere"], "data must be a folder or a CSV"),
        (["--method", "nonsense"], "method must be a list of known methods"),
        (["--metric", "nonsense"], "metric must be a list of known metrics"),
        (["--metric", ","], "metric must be a list of metrics the data can answer"),
        (["--model", "nonsense"], "model must be a classification model"),
        (["--model", ","], "model must be a list of networks"),
        (["--layer", "a=b"], "layer must be one value or MODEL=VALUE"),
        (["--layer", "nonsense"], "layer must be the name of a module"),
        (["--device", "cuda:99"], "device must be one that this computer has"),
    ],
)
def test_bad_arguments_are_said_before_any_work(tmp_path, words, message):
    code, said = run(tmp_path / "out", *words)

    assert code == 2
    assert message in said
    assert not (tmp_path / "out" / storage.RUN).exists()


def test_models_of_your_images_must_be_named(tmp_path):
    code, said = run(
        tmp_path / "out", "--data", photographs(tmp_path / "data"), "--metric", "all"
    )

    assert code == 2
    assert "model must be given for images of your own" in said


def test_the_record_is_json_for_people(finished):
    text = (finished / storage.RUN).read_text()

    assert text.startswith('{\n  "command"')
    assert json.loads(text) == storage.read_run(finished)
