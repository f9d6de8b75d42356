"""The run: images x networks x methods x metrics, a row at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captum_iscam._utils.files import as_json, drop_unfinished, locked, write_whole
from captum_iscam._utils.interrupts import raising_sigterm
from captum_iscam._utils.progress import ProgressLines, progress
from captum_iscam.benchmark.dataloader import load
from captum_iscam.benchmark.distributed import Group
from captum_iscam.benchmark.evaluation import Evaluator
from captum_iscam.benchmark.experiment import Experiment, check_same_experiment
from captum_iscam.benchmark.storage import (
    IMAGES,
    MAPS,
    ORDERS,
    RUN,
    WRITTEN,
    Store,
    count_incomplete_lines,
    done_cells,
    read_run,
    rows_in,
)


def run(
    experiment: Experiment,
    folder: Path,
    record: Mapping[str, Any],
    group: Group | None = None,
) -> None:
    """Writes all missing rows of an experiment, then the summary and the report.

    Args:
        experiment (Experiment): The experiment.
        folder (Path): An existing folder.
        record (Mapping[str, Any]): What :meth:`Experiment.describe` returned; only the
            first process needs it.
        group (Group, optional): The processes that share the work. Default: None, a
            single one

    Raises:
        ValueError: If the folder contains another experiment, or another run writes to
            it.
        OSError: If something cannot be written; the run can be resumed.
    """
    group = group or Group()
    with raising_sigterm(), ExitStack() as stack:

        def open_folder() -> None:
            stack.enter_context(locked(folder))
            _open_run(folder, record)

        group.join(experiment.device)
        group.first(open_folder)
        done, tested = done_cells(folder), done_cells(folder, ORDERS)
        with Store(folder, group.rank) as store:
            _work(Evaluator(experiment, store, done, tested), group)
        group.wait()
        group.first(lambda: _finish(folder, experiment))
        group.leave()


def _open_run(folder: Path, record: Mapping[str, Any]) -> None:
    if (folder / RUN).exists():
        old = check_same_experiment(folder, record)
        if record["notes"] and record["notes"] != old["notes"]:
            old["notes"] = record["notes"]
            write_whole(folder / RUN, as_json(old))
        _report_resume(folder)
        return
    # Rows without the record of their settings cannot be used, and any other file of
    # such a name is not from a benchmark.
    taken = [name for name in WRITTEN if os.path.lexists(folder / name)]
    if taken:
        raise ValueError(
            "out must be a folder without files named like those of a benchmark where "
            f"it has no {RUN}, got {str(folder)!r} with {', '.join(taken)}. Choose "
            "another with --out."
        )
    write_whole(folder / RUN, as_json(record))


def _report_resume(folder: Path) -> None:
    rows = sum(1 for _ in rows_in(folder))
    text = f"{folder} has {rows:,} rows already; the run continues."
    lines, parts = (
        count_incomplete_lines(folder),
        drop_unfinished(folder, (IMAGES, MAPS)),
    )
    if lines or parts:
        text += (
            f" It was interrupted: {lines} incomplete lines and {parts} unfinished "
            "files are removed and computed again."
        )
    tqdm.write(text, file=sys.stderr)


def _work(evaluator: Evaluator, group: Group) -> None:
    """Computes the rows of this process's images: every `size`-th one."""
    mine = range(group.rank, len(evaluator.experiment.data.items), group.size)
    unfinished = [index for index in mine if not evaluator.is_done(index)]
    loader = load(
        evaluator.experiment.data.items,
        unfinished,
        evaluator.experiment.models,
        evaluator.experiment.workers,
    )
    try:
        with _progress(len(unfinished), group) as bar:
            for loaded in loader:
                evaluator.image(loaded)
                bar.update()
    except RuntimeError as error:
        # An error that a worker raised says "in DataLoader worker process" instead.
        if "DataLoader worker (pid" not in str(error):
            raise
        raise OSError(
            f"a process that reads images has ended ({error}). All rows are kept: "
            "repeat the command to continue, with fewer --workers if it ends again."
        ) from error


def _finish(folder: Path, experiment: Experiment) -> None:
    """Adds what needs all rows: top-1, class names, summary and report."""
    from captum_iscam.benchmark.report.page import write_report
    from captum_iscam.benchmark.summary import summarise

    record = read_run(folder)
    correct: dict[str, dict[str, bool]] = {name: {} for name in record["models"]}
    seen: dict[str, set[int]] = {name: set() for name in record["models"]}
    for row in rows_in(folder):
        if row.model is None or row.prediction is None:
            continue
        seen[row.model] |= {i for i in (row.target, row.prediction) if i is not None}
        if row.label is not None:
            correct[row.model][row.image] = row.prediction == row.label
    for explained in experiment.models:
        hits = correct[explained.name].values()
        # The names of all classes would be most of the record.
        named = {
            str(i): explained.network.classes[i] for i in sorted(seen[explained.name])
        }
        record["models"][explained.name] |= {
            "top1": sum(hits) / len(hits) if hits else None,
            "class_names": named,
        }
    write_whole(folder / RUN, as_json(record))
    write_report(folder, summarise(folder))


def _progress(total: int, group: Group) -> tqdm[Any] | ProgressLines:
    """Returns the progress of the first process's images."""
    share = f"1 of {group.size} processes" if group.size > 1 else None
    return progress(total, "image", share, hidden=group.rank != 0)
