"""What a run does, and the record of it that lets another repeat or resume it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from captum_iscam.benchmark._device import about_device
from captum_iscam.benchmark.data import DataSet
from captum_iscam.benchmark.layout import COSTS, image_key
from captum_iscam.benchmark.measures import Measure
from captum_iscam.benchmark.subjects import Subject
from captum_iscam.methods import METHODS, Options

TARGET_CLASSES = ("predicted", "true")


@dataclass(frozen=True)
class Plan:
    """Images x networks x methods x metrics, and how they are run.

    Attributes:
        data (DataSet): The images, their labels resolved.
        subjects (Sequence[Subject]): The networks.
        methods (Sequence[str]): Names from `METHODS`.
        measures (Mapping[str, Measure]): The metrics.
        options (Options): Settings of the methods; its seed is that of the whole run.
        target_class (str): "predicted" or "true". Default: "predicted"
        autocast (bool): Whether networks run in bfloat16 where that is safe.
        device (torch.device): Where they run.
        workers (int): Processes that read images.
    """

    data: DataSet
    subjects: Sequence[Subject]
    methods: Sequence[str]
    measures: Mapping[str, Measure]
    options: Options = field(default_factory=Options)
    target_class: str = "predicted"
    autocast: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0

    def __post_init__(self) -> None:
        """Raises unless every target can be known.

        Raises:
            ValueError: If `target_class` is unknown, or an image has no label.
        """
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

    def image_seed(self, place: int) -> int:
        """Returns the seed of an image's noise and masks, whoever works on it, when."""
        text = f"{self.options.seed}:{self.data.items[place].id}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def cells(self) -> list[tuple[str, str, str]]:
        """Returns model, method and metric of every row an image is to have."""
        return [
            (subject.name, method, metric)
            for subject in self.subjects
            for method in self.methods
            for metric in (*COSTS, *self.measures)
        ]

    def describe(
        self,
        command: Sequence[str],
        versions: Mapping[str, str],
        notes: Sequence[str] = (),
        processes: int = 1,
    ) -> dict[str, Any]:
        """Returns what `run.json` holds; see `layout`.

        Args:
            command (Sequence[str]): How the run was started.
            versions (Mapping[str, str]): Versions of what can change a result.
            notes (Sequence[str], optional): What a reader has to know. Default: ()
            processes (int, optional): How many share the work. Default: 1
        """
        return {
            "command": list(command),
            "settings": {
                "seed": self.options.seed,
                "target_class": self.target_class,
                "dtype": "bfloat16 autocast" if self.autocast else "float32",
            },
            "versions": dict(versions),
            "device": {**about_device(self.device), "processes": processes},
            "notes": list(notes),
            "data": _data(self.data),
            "models": {subject.name: _model(subject) for subject in self.subjects},
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
                **{name: _metric(measure) for name, measure in self.measures.items()},
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


def _model(subject: Subject) -> dict[str, Any]:
    network = subject.network
    return {
        "layer": subject.layer_name,
        "weights": network.weights,
        "sha256": network.sha256,
        "classes": len(network.classes),
        "preprocessing": network.preprocessing,
        "top1": None,
    }


def _metric(measure: Measure) -> dict[str, Any]:
    metric = measure.metric
    return {
        "higher_is_better": metric.higher_is_better,
        "unit": metric.unit,
        "settings": measure.settings,
    }


def _cost(name: str) -> dict[str, Any]:
    unit = "s" if name == "seconds" else "passes"
    return {"higher_is_better": False, "unit": unit, "settings": {}}


def _seed_of(takes: Sequence[str]) -> dict[str, str]:
    """What the record of a method says of its seed, which is not the run's itself."""
    return {"seed": "of the run and the image"} if "seed" in takes else {}
