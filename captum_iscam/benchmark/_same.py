"""Whether two records are of the same experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_iscam.benchmark.layout import RUN, read_run


def same_record(folder: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `run.json` holds, which is of the same experiment as a new record.

    Not compared is what changes no more than the last digits of a result: the command's
    words, the path of the data, notes, the card, how many threads, processes, workers
    and inputs per pass there are.

    Args:
        folder (Path): Where the file is.
        new (Mapping[str, Any]): What would be written now.

    Raises:
        ValueError: With the first setting that differs, as it was and as it is; or if
            the file is not that of a benchmark.
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
                "folder with --out, or the old setting to go on."
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
    return {
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
    """Returns nested settings by dotted names, but for how much is done at a time."""
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
