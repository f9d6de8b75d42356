"""`captum-iscam benchmark`: images x networks x methods x metrics."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captum_iscam.benchmark.claims import Claims, check_claims, read_claims
from captum_iscam.benchmark.dataset import DataSet, resolve
from captum_iscam.benchmark.distributed import Group
from captum_iscam.benchmark.experiment import Experiment
from captum_iscam.benchmark.explained_models import (
    SCENE_NET,
    ExplainedModel,
    load_explained_model,
)
from captum_iscam.benchmark.metric_registry import find_metrics, with_settings
from captum_iscam.benchmark.metric_spec import MetricSpec
from captum_iscam.benchmark.metric_trial import check_returns
from captum_iscam.benchmark.run import run as run_experiment
from captum_iscam.benchmark.sources import bundled_scenes, find_data
from captum_iscam.benchmark.storage import (
    REPORT,
    SUMMARY_JSON,
    SUMMARY_LATEX,
    SUMMARY_MARKDOWN,
)
from captum_iscam.benchmark.table_text import count
from captum_iscam.benchmark.terminal import as_text, describe_without_value
from captum_iscam.cli.explain import check_score, choose_device, network_options
from captum_iscam.cli.output import make_folder, print_line
from captum_iscam.cli.parser import METHODS, PRESETS
from captum_iscam.cli.plugins import load_plugins
from captum_iscam.cli.record import versions
from captum_iscam.methods import Options, find_methods
from captum_iscam.networks import Network

_MOST_LISTED = 20
_MOST_LINES = 35  # of tables, so that all of the output is at most 40


def run(args: argparse.Namespace) -> int:
    """Runs or resumes a benchmark.

    Returns:
        0 when it is complete; 1 if a method or a network has nothing but errors.
    """
    group = Group()
    plugins = load_plugins(args.plugin)
    _apply_preset(args)
    claims = None if args.claims is None else read_claims(args.claims)
    note = "" if claims is None else _apply_claims(args, claims)
    folder = make_folder(args.out)
    experiment = _experiment(args, group)
    if claims is not None:
        check_claims(claims.claims, _names_of(experiment))
    record = {}
    if group.rank == 0:
        tqdm.write(_announcement(experiment) + note, file=sys.stderr)
        record = experiment.describe(
            ["captum-iscam", *args.words],
            versions(),
            args.note,
            group.size,
            plugins,
            claims,
        )
    run_experiment(experiment, folder, json.loads(json.dumps(record)), group)
    return print_results(folder) if group.rank == 0 else 0


def print_results(folder: Path) -> int:
    """Prints the means and where the rest is.

    Args:
        folder (Path): The folder of a benchmark.

    Returns:
        1 if a method or a network has nothing but errors, else 0.
    """
    content = json.loads((folder / SUMMARY_JSON).read_bytes())
    lines = as_text(content, shutil.get_terminal_size().columns)
    for line in lines[:_MOST_LINES]:
        print_line(line, sys.stdout)
    if len(lines) > _MOST_LINES:
        print_line(f"and {len(lines) - _MOST_LINES} more lines", sys.stdout)
    print_line(f"Tables: {folder / SUMMARY_MARKDOWN}", sys.stdout)
    print_line(f"For a paper: {folder / SUMMARY_LATEX}", sys.stdout)
    print_line(f"To open in a browser: {folder / REPORT}", sys.stdout)
    print_line(f"To cite: {content['citation']['text']}", sys.stdout)
    failed = describe_without_value(content)
    for line in failed[:_MOST_LISTED]:
        print_line(line, sys.stderr)
    if len(failed) > _MOST_LISTED:
        print_line(f"and {len(failed) - _MOST_LISTED} more", sys.stderr)
    if failed:
        print_line(
            "There every image failed, and all other results stand. Correct the cause "
            "and give the command again with another --out, or leave out what failed.",
            sys.stderr,
        )
    return 1 if failed else 0


def _apply_preset(args: argparse.Namespace) -> None:
    """Sets the options that were not given."""
    preset = dict(PRESETS.get(args.preset, {}))
    if args.data is None:
        # ImageNet's networks have none of the drawn objects as classes.
        for name in ("model", "layer", "samples"):
            preset.pop(name, None)
    args.at_most = args.samples is None
    if args.model is not None:
        # A preset's layers are for its own networks, of which some may be chosen.
        names = {name.strip() for name in args.model.split(",")}
        layers = [
            part
            for part in str(preset.get("layer", "")).split(",")
            if part.partition("=")[0] in names
        ]
        preset["layer"] = ",".join(layers) or None
    for name, value in preset.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _apply_claims(args: argparse.Namespace, claims: Claims) -> str:
    """Sets the options that were not given to what the claims are about.

    Returns:
        A sentence that says so, for users who expect the usual ones.
    """
    missing = [o for o in ("method", "metric", "model") if getattr(args, o) is None]
    for option in missing:
        setattr(args, option, ",".join(claims.names(option)))
    layers = {c.model: c.layer for c in claims.claims if c.layer}
    if args.layer is None and layers:
        args.layer = ",".join(f"{model}={layer}" for model, layer in layers.items())
    what = ", ".join(f"--{option}" for option in missing)
    return f"\nOnly what the claims name is run. To run more, give {what}." * bool(what)


def _names_of(experiment: Experiment) -> dict[str, Any]:
    """Returns the part of `run.json` that claims are checked against."""
    return {
        "methods": dict.fromkeys(experiment.methods),
        "models": {m.name: {"layer": m.layer_name} for m in experiment.models},
        "metrics": {
            name: {"higher_is_better": spec.metric.higher_is_better}
            for name, spec in experiment.metrics.items()
        },
        "data": {"images": [{"id": item.id} for item in experiment.data.items]},
    }


def _experiment(args: argparse.Namespace, group: Group) -> Experiment:
    """Returns the experiment, or raises for arguments that do not fit."""
    methods = find_methods(args.method or METHODS)
    data = _data(args)
    specs = find_metrics(args.metric, data.has_regions, data.has_interventions)
    check_returns(specs)
    # Only what is given: a metric of a plugin may have a default of its own.
    given = {"steps": args.steps, "substrate": args.substrate, "score": args.score}
    chosen = {name: value for name, value in given.items() if value is not None}
    device = choose_device(group.device_name(args.device))
    models = _models(args, str(device))
    for explained in models:
        check_score(args.score, explained.network)
        _check_crop(data, explained.network)
    _check_other_class(specs, models)
    return Experiment(
        _labelled(data, models),
        models,
        methods,
        with_settings(specs, chosen),
        Options(
            n_samples=args.n_samples,
            seed=args.seed,
            internal_batch_size=args.internal_batch_size,
            n_masks=args.n_masks,
            stdevs=args.stdevs,
            screening=args.screening,
            n_steps=args.n_steps,
            score=args.score,
        ),
        args.target_class,
        args.autocast,
        device,
        args.workers if data.kind != "scenes" else 0,
        args.test_metrics,
    )


def _data(args: argparse.Namespace) -> DataSet:
    given = args.data is not None
    data = find_data(args.data) if given else bundled_scenes(args.samples)
    if args.ignore_labels:
        data = data.without_labels()
    if args.samples is not None:
        most = len(data.items) if args.at_most else args.samples
        data = data.subset(min(args.samples, most), args.seed)
    data.check_files()
    data.check_regions()
    return data


def _models(args: argparse.Namespace, device: str) -> list[ExplainedModel]:
    if args.model is None and args.data is not None:
        raise ValueError(
            "model must be given for images of your own, got none. Name networks with "
            "--model, such as squeezenet1_1 of torchvision."
        )
    listed = (args.model or SCENE_NET).split(",")
    names = list(dict.fromkeys(name.strip() for name in listed if name.strip()))
    if not names:
        raise ValueError(
            f"model must be a list of networks, got {args.model!r}. Name one or more."
        )
    layers = _by_model(args.layer, names, "layer")
    weights = _by_model(args.weights, names, "weights")
    options = network_options(args)
    return [
        load_explained_model(
            name,
            _weights(name, weights.get(name)),
            layers.get(name),
            device,
            **options,
        )
        for name in names
    ]


def _by_model(text: str | None, names: list[str], option: str) -> Mapping[str, str]:
    """Returns the value of each model, from "MODEL=VALUE,..." or one value for all."""
    if text is None:
        return {}
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and "=" not in text:
        return dict.fromkeys(names, text)
    # A name may have "=" in it, as that of a folder.
    given = {
        name: part[len(name) + 1 :]
        for part in parts
        for name in names
        if part.startswith(f"{name}=")
    }
    if len(given) != len(parts) or not all(given.values()):
        raise ValueError(
            f"{option} must be one value or MODEL=VALUE for models of --model, got "
            f"{text!r}. The models are: {', '.join(names)}."
        )
    return given


def _weights(name: str, given: str | None) -> str | Path:
    if given is None or not os.path.isdir(given):
        return given or "DEFAULT"
    return Path(given) / f"{re.sub('[:/]', '_', name)}.pt"


def _check_crop(data: DataSet, network: Network) -> None:
    """Raises for regions that cannot be brought to what the network is shown."""
    if data.has_regions and network.preprocessing["crop"] is None:
        raise ValueError(
            f"model must say what it crops for data with boxes or masks, got "
            f"{network.name} with a transform of its own. Return the model alone, and "
            "give --size, --mean and --std."
        )


def _check_other_class(
    specs: Mapping[str, MetricSpec], models: list[ExplainedModel]
) -> None:
    """Raises for metrics that compare two classes where there is one."""
    asking = [name for name, spec in specs.items() if "other_target" in spec.parameters]
    single = [m.name for m in models if len(m.network.classes) == 1]
    if asking and single:
        raise ValueError(
            f"metric must not compare two classes for a network with one output, got "
            f"{asking[0]} for {single[0]}. Name other metrics with --metric."
        )


def _labelled(data: DataSet, models: list[ExplainedModel]) -> DataSet:
    """Returns the data with labels as indices of the classes, which models share."""
    first = models[0].network
    for explained in models:
        if len(explained.network.classes) != len(first.classes):
            raise ValueError(
                "model must name networks with the same classes, got "
                f"{len(first.classes)} in {first.name} and "
                f"{len(explained.network.classes)} in {explained.name}. Run one "
                "benchmark for each."
            )
    return resolve(data, first.classes)


def _announcement(experiment: Experiment) -> str:
    networks = ", ".join(f"{s.name} ({s.layer_name})" for s in experiment.models)
    missing = sum(item.is_missing for item in experiment.data.items)
    note = f", {missing} of them missing" if missing else ""
    return (
        f"{count(len(experiment.data.items), 'image')} ({experiment.data.kind}){note}, "
        f"{networks}, {count(len(experiment.methods), 'method')}, "
        f"{count(len(experiment.metrics), 'metric')}, on {experiment.device}"
    )
