"""Folders as a benchmark leaves them, with drawn numbers in place of measured ones."""

import json
from dataclasses import replace

import numpy as np
from PIL import Image

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.storage import Curve, JudgedMap, Row

METHODS = {
    "is-cam": "IS-CAM",
    "score-cam": "Score-CAM",
    "grad-cam": "Grad-CAM",
    "random-map": "Random map",
}
METRICS = {
    "average_drop": (False, "percent"),
    "average_increase": (True, "percent"),
    "insertion": (True, "score"),
    "deletion": (False, "score"),
    "pointing_game": (True, "share"),
}
COSTS = {
    "seconds": (False, "seconds"),
    "forward_passes": (False, "passes"),
    "backward_passes": (False, "passes"),
}
CLASSES = ("cat", "dog", "owl")


def declare(
    n_images, models=("net",), methods=METHODS, metrics=METRICS, classes=CLASSES
):
    """Returns the contents of a run.json."""
    images = []
    for i in range(n_images):
        name = f"photos/image_{i:04d}.jpg"
        label = i % len(classes)
        key = storage.image_key(name)
        entry = {"id": name, "key": key, "label": label, "class": classes[label]}
        images.append(entry)
    return {
        "command": ["captum-iscam", "benchmark", "--data", "photos"],
        "settings": {"target_class": "predicted", "autocast": False, "n_samples": 35},
        "versions": {"python": "3.12.3", "torch": "2.9.0", "captum": "0.9.0"},
        "device": {"type": "cpu", "name": "drawn", "threads": 1, "processes": 1},
        "notes": ["Numbers of this folder are drawn, not measured."],
        "data": {"kind": "csv", "path": "photos", "samples": n_images, "seed": 0}
        | {"images": images},
        "models": {
            name: {"layer": "features", "weights": f"{name}.pt", "sha256": "ab" * 32}
            for name in models
        },
        "methods": {
            name: {"title": title, "control": name == "random-map", "settings": {}}
            for name, title in methods.items()
        },
        "metrics": {
            name: {"higher_is_better": higher, "unit": unit, "settings": {}}
            for name, (higher, unit) in {**metrics, **COSTS}.items()
        },
    }


def image_rows(run, i, values, model="net"):
    """Returns the rows of image i: `values` is {metric: one value per method}."""
    image = run["data"]["images"][i]
    blank = Row(
        image["id"],
        model,
        target=image["label"],
        label=image["label"],
        prediction=image["label"],
        probability=0.5,
        group=image["class"],
    )
    return [
        replace(blank, method=method, metric=metric, value=value)
        for metric, by_method in values.items()
        for method, value in zip(run["methods"], by_method, strict=True)
    ]


def write_run(folder, run):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / storage.RUN).write_text(json.dumps(run))


def write_records(folder, kind, records, rank=0):
    file = storage.rank_file(folder, kind, rank)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(storage.to_line(record) for record in records))


def rows_folder(folder, values, **settings):
    """Writes a folder of one network: `values` is {metric: (images, methods)}."""
    n_images = len(next(iter(values.values())))
    metrics = {name: METRICS[name] for name in values}
    run = declare(n_images, metrics=metrics, **settings)
    write_run(folder, run)
    rows = []
    for i in range(n_images):
        rows += image_rows(run, i, {m: table[i] for m, table in values.items()})
    write_records(folder, storage.ROWS, rows)
    return run, rows


def write_tests(folder, run, shares):
    """Adds a test of metrics: `shares` is {metric: right orders of ten maps}."""
    method = next(iter(run["methods"]))
    run["settings"]["metric_test"] = {"images": 10, "method": method}
    write_run(folder, run)
    images = [image["id"] for image in run["data"]["images"][:10]]
    model = next(iter(run["models"]))
    write_records(
        folder,
        storage.ORDERS,
        [
            JudgedMap(image, model, method, metric, 0, 1, {"flip": [float(i < right)]})
            for metric, right in shares.items()
            for i, image in enumerate(images)
        ],
    )


def full_folder(
    folder, n_images=12, models=("net", "other-net"), pictures=None, **settings
):
    """Writes a folder with everything in it: rows, curves, pictures and maps.

    With `pictures` that many images share theirs among all.
    """
    run = declare(n_images, models, **settings)
    write_run(folder, run)
    rng = np.random.default_rng(0)
    rows, curves = [], []
    for model in models:
        for i in range(n_images):
            found = _drawn_values(rng, run, i, model)
            rows += found[0]
            curves += found[1]
    write_records(folder, storage.ROWS, rows[::2])
    write_records(folder, storage.ROWS, rows[1::2], rank=1)
    write_records(folder, storage.CURVES, curves)
    if pictures is not None:
        for i, image in enumerate(run["data"]["images"]):
            image["key"] = run["data"]["images"][i % pictures]["key"]
        write_run(folder, run)
    write_pictures(folder, run, rng, pictures)
    return run


def _drawn_values(rng, run, i, model):
    """Rows and curves of one image; the earlier a method, the better it is."""
    n_methods = len(run["methods"])
    quality = np.linspace(0.6, 0.2, n_methods) + rng.normal(0, 0.05)
    quality = (quality + rng.normal(0, 0.05, n_methods)).clip(0.05, 0.95)
    drawn = {
        "average_drop": 100 * (1 - quality).clip(0, 1),
        "average_increase": 100.0 * (rng.random(n_methods) < quality),
        "insertion": quality,
        "deletion": 0.1 - quality / 10,
        "pointing_game": 1.0 * (rng.random(n_methods) < quality + 0.3),
        "seconds": rng.gamma(2, 0.1, n_methods) * np.arange(n_methods, 0, -1) ** 2,
        "forward_passes": 10.0 ** np.arange(n_methods, 0, -1).clip(0, 3),
    }
    values = {
        metric: [round(float(v), 5) for v in drawn.get(metric, quality)]
        for metric in run["metrics"]
        if metric != "backward_passes"
    }
    if i % 3 == 2 and "pointing_game" in values:
        values["pointing_game"] = [None] * n_methods
    rows = image_rows(run, i, values, model)
    wrong = (i + 1) % 3 if i % 4 == 3 else None
    if wrong is not None:
        rows = [replace(row, prediction=wrong, target=wrong) for row in rows]
    fractions = np.linspace(0, 1, 29)
    curves = []
    for method, q in zip(run["methods"], quality, strict=True):
        shapes = {
            "insertion": 0.9 * fractions ** (1 / q - 0.6),
            "deletion": 0.9 * np.exp(-fractions * 20 * q),
        }
        for metric, scores in shapes.items():
            image = run["data"]["images"][i]["id"]
            points = [round(float(s), 4) for s in scores]
            grid = [round(float(f), 6) for f in fractions]
            curves.append(Curve(image, model, method, metric, grid, points))
    return rows, curves


def write_pictures(folder, run, rng, n_different=None):
    """Writes a picture per image and a map per image, network and method."""
    y, x = np.mgrid[0:160, 0:160] / 160
    for i, image in enumerate(run["data"]["images"][:n_different]):
        file = storage.image_file(folder, image["key"])
        file.parent.mkdir(parents=True, exist_ok=True)
        waves = np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y + i)], axis=2)
        blob = np.hypot(x - 0.3 - 0.4 * (i % 2), y - 0.5) < 0.2
        waves[blob] = np.random.default_rng(i).random(3)
        Image.fromarray((waves * 255).astype(np.uint8)).save(file, quality=80)
        for model in run["models"]:
            for j, method in enumerate(run["methods"]):
                map_file = storage.map_file(folder, model, method, image["key"])
                map_file.parent.mkdir(parents=True, exist_ok=True)
                small = np.exp(
                    -((x - 0.3 - 0.4 * (i % 2)) ** 2 + (y - 0.5) ** 2) / 0.05
                )
                noise = rng.random((7, 7)) * 255
                rough = Image.fromarray(noise.astype(np.uint8)).resize((112, 112))
                share = min(1.0, (0.1 + 0.3 * j) * (i % 5) / 4)
                smooth = Image.fromarray((small * 255).astype(np.uint8))
                mixed = Image.blend(smooth.resize((112, 112)), rough, share)
                mixed.save(map_file)
