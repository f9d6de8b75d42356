"""Small runs of the command, and what is left of them to compare."""

import contextlib
import io
import json

from captum_iscam.benchmark import storage
from captum_iscam.cli.main import main

METHODS = "grad-cam,random-map,center-map"
METRICS = "average_drop,insertion,infidelity,sparseness,pointing_game"
SMALL = ["--method", METHODS, "--metric", METRICS, "--samples", "3", "--steps", "4"]


def command(folder, *words):
    """Returns the words of a small run on the bundled scenes."""
    return ["benchmark", *SMALL, *map(str, words), "--out", str(folder)]


def run(folder, *words):
    """Runs it here, in silence; returns its exit code and what it said of errors."""
    said = io.StringIO()
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = main(command(folder, *words))
    return code, said.getvalue()


def run_alone(folder, *words):
    """Runs it as the whole work of a process."""
    raise SystemExit(run(folder, *words)[0])


def rows(folder):
    """Returns the rows by key, which must be unique."""
    found = storage.read_rows(folder)
    by_key = {row.key: row for row in found}
    assert len(by_key) == len(found)
    return by_key


def result(folder):
    """Returns all that two runs of the same command have in common."""
    without_time = {
        key: row for key, row in rows(folder).items() if key.metric != "seconds"
    }
    summary = json.loads((folder / "summary.json").read_bytes())
    means = [entry for entry in summary["means"] if entry["metric"] != "seconds"]
    pictures = {
        file.relative_to(folder): file.read_bytes()
        for kind in (storage.MAPS, storage.IMAGES)
        for file in sorted((folder / kind).rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }
    curves = {curve.key: curve for curve in storage.read_curves(folder)}
    orders = {judged.key: judged for judged in storage.read_orders(folder)}
    return without_time, means, pictures, curves, orders
