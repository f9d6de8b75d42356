"""What a run does, and its record, by which a run is repeated or resumed."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from captum_iscam._utils.scores import score_transform
from captum_iscam.benchmark.claims import Claims
from captum_iscam.benchmark.dataset import DataSet
from captum_iscam.benchmark.degradation import judges_maps
from captum_iscam.benchmark.explained_models import ExplainedModel
from captum_iscam.benchmark.metric_spec import MetricSpec
from captum_iscam.benchmark.storage import COSTS, RUN, image_key, read_run
from captum_iscam.methods import METHODS, Options

TARGET_CLASSES = ("predicted", "true")


@dataclass(frozen=True)
class Experiment:
    """Images x networks x methods x metrics, and how they are computed.

    Attributes:
        data (DataSet): The images, their labels resolved.
        models (Sequence[ExplainedModel]): The networks.
        methods (Sequence[str]): Names from `METHODS`.
        metrics (Mapping[str, MetricSpec]): The metrics.
        options (Options): Settings of the methods; its seed is that of the run.
        target_class (str): "predicted" or "true". Default: "predicted"
        autocast (bool): Whether networks run in bfloat16 where that is safe.
        device (torch.device): Where they run.
        workers (int): Number of processes that read images.
        test_metrics (int): Number of images, the first ones, on which the metrics are
            tested. Default: 0, none
    """

    data: DataSet
    models: Sequence[ExplainedModel]
    methods: Sequence[str]
    metrics: Mapping[str, MetricSpec]
    options: Options = field(default_factory=Options)
    target_class: str = "predicted"
    autocast: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    test_metrics: int = 0

    def __post_init__(self) -> None:
        """Raises unless every image has a target.

        Raises:
            ValueError: If `target_class` or the score is unknown, an image has no
                label, or metrics are to be tested and no method or metric is fit.
        """
        score_transform(self.options.score or "softmax")
        if self.target_class not in TARGET_CLASSES:
            raise ValueError(
                f"target_class must be one of {', '.join(TARGET_CLASSES)}, got "
                f"{self.target_class!r}. The first is the class the network predicts."
            )
        without = [item.id for item in self.data.items if item.label is None]
        if self.target_class == "true" and without:
            raise ValueError(
                "target_class must be predicted where an image has no label, got "
                f"'true' and no label for {without[0]}. Label all images."
            )

        if self.test_metrics:
            self._check_tested()

    def _check_tested(self) -> None:
        if self.tested_method is None:
            raise ValueError(
                "method must include one that is no control where metrics are tested, "
                f"got {', '.join(self.methods)}. Add one, or leave out --test-metrics."
            )
        if not self.tested_metrics:
            raise ValueError(
                "metric must include one that judges a given map where metrics are "
                f"tested, got {', '.join(self.metrics)}. Add one, such as insertion, "
                "or leave out --test-metrics."
            )

    @property
    def tested_method(self) -> str | None:
        """The method whose maps test the metrics: the first that is no control."""
        return next((name for name in self.methods if not METHODS[name].control), None)

    @property
    def tested_metrics(self) -> list[str]:
        """The metrics that a test is about."""
        return [name for name, spec in self.metrics.items() if judges_maps(spec)]

    def image_seed(self, index: int) -> int:
        """Returns the seed of an image's noise and masks.

        It depends on the seed of the run and the id of the image alone.
        """
        text = f"{self.options.seed}:{self.data.items[index].id}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def cells(self) -> list[tuple[str, str, str]]:
        """Returns model, method and metric of every row of an image."""
        return [
            (explained.name, method, metric)
            for explained in self.models
            for method in self.methods
            for metric in (*COSTS, *self.metrics)
        ]

    def describe(
        self,
        command: Sequence[str],
        versions: Mapping[str, str],
        notes: Sequence[str] = (),
        processes: int = 1,
        plugins: Mapping[str, str | None] | None = None,
        claims: Claims | None = None,
    ) -> dict[str, Any]:
        """Returns the content of `run.json`, which :mod:`.storage` describes.

        Args:
            command (Sequence[str]): The command line.
            versions (Mapping[str, str]): Versions of the libraries.
            notes (Sequence[str], optional): Remarks for readers. Default: ()
            processes (int, optional): Number of processes. Default: 1
            plugins (Mapping[str, str or None], optional): SHA-256 of the plugins'
                files by name. Default: None, there are none
            claims (Claims, optional): What is claimed before the run. Default: None
        """
        tested = {"images": self.test_metrics, "method": self.tested_method}
        return {
            "command": list(command),
            "settings": {
                "seed": self.options.seed,
                "target_class": self.target_class,
                "dtype": "bfloat16 autocast" if self.autocast else "float32",
                # Absent in folders from before it could be chosen.
                **({"score": self.options.score} if self.options.score else {}),
                **({"metric_test": tested} if self.test_metrics else {}),
            },
            "versions": dict(versions),
            "plugins": dict(plugins or {}),
            **({"claims": claims.record()} if claims else {}),
            "device": {**about_device(self.device), "processes": processes},
            "notes": list(notes),
            "data": _data(self.data),
            "models": {explained.name: _model(explained) for explained in self.models},
            "methods": {
                name: {
                    "title": METHODS[name].title,
                    "control": METHODS[name].control,
                    "settings": {
                        **METHODS[name].settings(self.options),
                        **_seed_of(METHODS[name].takes),
                    },
                }
                for name in self.methods
            },
            "metrics": {
                **{name: _metric(spec) for name, spec in self.metrics.items()},
                **{name: _cost(name) for name in COSTS},
            },
        }


def _data(data: DataSet) -> dict[str, Any]:
    return {
        "kind": data.kind,
        "path": None if data.path is None else str(data.path),
        "samples": data.samples,
        "seed": data.seed,
        "images": [
            {
                "id": item.id,
                "key": image_key(item.id),
                "label": item.label,
                "class": item.class_name,
                "digest": item.digest(),
            }
            for item in data.items
        ],
    }


def _model(explained: ExplainedModel) -> dict[str, Any]:
    network = explained.network
    return {
        "layer": explained.layer_name,
        "weights": network.weights,
        "sha256": network.sha256,
        "classes": len(network.classes),
        "preprocessing": network.preprocessing,
        "source": network.source,
        "top1": None,
    }


def _metric(spec: MetricSpec) -> dict[str, Any]:
    metric = spec.metric
    return {
        "higher_is_better": metric.higher_is_better,
        "unit": metric.unit,
        "settings": spec.settings,
    }


def _cost(name: str) -> dict[str, Any]:
    unit = "s" if name == "seconds" else "passes"
    return {"higher_is_better": False, "unit": unit, "settings": {}}


def _seed_of(takes: Sequence[str]) -> dict[str, str]:
    """The record of a method's seed, which is not the run's own."""
    return {"seed": "of the run and the image"} if "seed" in takes else {}


def check_same_experiment(folder: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of `run.json`, or raises if it is another experiment.

    It ignores what changes at most the last digits of a result: the command line, the
    path of the data, notes, the model of the device, and the numbers of threads,
    processes, workers and inputs per pass.

    Args:
        folder (Path): The folder of the file.
        new (Mapping[str, Any]): What a new run would write.

    Raises:
        ValueError: With the old and the new value of the first setting that differs; or
            if the file is not that of a benchmark.
    """
    try:
        old = read_run(folder)
        before = _flat(_of_experiment(old))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"out must be a folder whose {RUN} is that of a benchmark, got "
            f"{str(folder)!r}, whose is not ({type(error).__name__}: {error}). Choose "
            "another with --out."
        ) from error
    after = _flat(_of_experiment(new))
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name, "absent"), after.get(name, "absent")
        if was != now:
            raise ValueError(
                f"out must be a folder of the same experiment, got {str(folder)!r}, "
                f"whose {name} is {_short(was)}, now {_short(now)}. Choose another "
                "folder with --out, or the old setting to continue."
            )
    return old


def _of_experiment(run: Mapping[str, Any]) -> dict[str, Any]:
    models = {
        name: {k: v for k, v in model.items() if k not in ("top1", "class_names")}
        for name, model in run["models"].items()
    }
    data = {k: v for k, v in run["data"].items() if k not in ("path", "images")}
    images = run["data"]["images"]
    versions = {k: v for k, v in run["versions"].items() if k != "python"}
    plugins = run.get("plugins", {})  # folders from before plugins have none
    return {
        "plugins": {"names": list(plugins), **plugins},
        # So claims cannot be changed, or made up, once there are rows.
        "claims": {"sha256": (run.get("claims") or {}).get("sha256")},
        "models": {"names": list(models), **models},
        "methods": {"names": list(run["methods"]), **run["methods"]},
        "metrics": {"names": list(run["metrics"]), **run["metrics"]},
        "settings": run["settings"],
        "data": {
            **data,
            "images": [image["id"] for image in images],
            "labels": [image["label"] for image in images],
            "digests": {image["id"]: image.get("digest") for image in images},
        },
        "versions": versions,
        "device": {"type": run["device"]["type"]},
    }


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Returns nested settings by dotted names, without `internal_batch_size`."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if name == "internal_batch_size":
            continue
        if isinstance(inner, Mapping) and inner:
            found.update(_flat(inner, f"{above}{name}."))
        else:
            found[above + name] = inner
    return found


def _short(value: object) -> str:
    if isinstance(value, list) and len(value) > 12:
        return f"{value[0]!r} and {len(value) - 1} more"
    return repr(value)


def about_device(device: torch.device) -> dict[str, Any]:
    """Returns the record of a device."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        tf32 = bool(torch.backends.cudnn.allow_tf32)
        return {"type": device.type, "name": name, "convolutions_in_tf32": tf32}
    name = processor()
    threads, cores = torch.get_num_threads(), os.cpu_count()
    return {"type": device.type, "name": name, "threads": threads, "cores": cores}


def processor() -> str:
    """Returns the name of the processor, or its architecture where there is none.

    Examples::

        >>> bool(processor())
        True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
