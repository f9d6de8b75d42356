"""The run: images x networks x methods x metrics, a row at a time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from captum_iscam._utils.files import as_json, drop_unfinished, locked, write_whole
from captum_iscam.benchmark.dataloader import load
from captum_iscam.benchmark.distributed import Group
from captum_iscam.benchmark.evaluation import Evaluator
from captum_iscam.benchmark.experiment import Experiment, check_same_experiment
from captum_iscam.benchmark.storage import (
    IMAGES,
    MAPS,
    ROWS,
    RUN,
    WRITTEN,
    Store,
    done_cells,
    read_lines,
    read_run,
    torn_lines,
)


def run(
    experiment: Experiment,
    folder: Path,
    record: Mapping[str, Any],
    group: Group | None = None,
) -> None:
    """Writes all rows of a plan that are missing, then the summary and the report.

    Args:
        experiment (Experiment): What to do.
        folder (Path): Where to; it is there.
        record (Mapping[str, Any]): What :meth:`Experiment.describe` gave; the first
            process alone needs it.
        group (Group, optional): The processes that share the work. Default: None, this
            one alone

    Raises:
        ValueError: If the folder holds another experiment, or another run is at work.
        OSError: If something cannot be written; the run can be resumed.
    """
    group = group or Group()
    with _ended_by_sigterm(), ExitStack() as held:

        def open_folder() -> None:
            held.enter_context(locked(folder))
            _open_run(folder, record)

        group.join(experiment.device)
        group.first(open_folder)
        done = done_cells(folder)
        with Store(folder, group.rank) as store:
            _work(Evaluator(experiment, store, done), group)
        group.wait()
        group.first(lambda: _finish(folder, experiment))
        group.leave()


def _open_run(folder: Path, record: Mapping[str, Any]) -> None:
    if (folder / RUN).exists():
        old = check_same_experiment(folder, record)
        if record["notes"] and record["notes"] != old["notes"]:
            old["notes"] = record["notes"]
            write_whole(folder / RUN, as_json(old))
        _say_what_is_there(folder)
        return
    # A row without the record of its settings would be worth nothing, and whatever else
    # has a name that this run would write is somebody's.
    taken = [name for name in WRITTEN if os.path.lexists(folder / name)]
    if taken:
        raise ValueError(
            "out must be a folder without files of a benchmark's names where it has "
            f"no {RUN}, got {str(folder)!r} with {', '.join(taken)}. Choose "
            "another with --out."
        )
    write_whole(folder / RUN, as_json(record))


def _say_what_is_there(folder: Path) -> None:
    rows = sum(1 for _ in read_lines(folder / ROWS))
    said = f"{folder} holds {rows:,} rows from before; the run goes on from there."
    torn, parts = torn_lines(folder), drop_unfinished(folder, (IMAGES, MAPS))
    if torn or parts:
        said += (
            f" It was cut off: {torn} torn lines and {parts} unfinished files are "
            "dropped and made again."
        )
    tqdm.write(said, file=sys.stderr)


def _work(work: Evaluator, group: Group) -> None:
    """Does the images that are this process's."""
    mine = range(group.rank, len(work.experiment.data.items), group.size)
    open_places = [place for place in mine if not work.is_done(place)]
    loader = load(
        work.experiment.data.items,
        open_places,
        work.experiment.models,
        work.experiment.workers,
    )
    try:
        with _progress(len(open_places), group) as bar:
            for loaded in loader:
                work.image(loaded)
                bar.update()
    except RuntimeError as error:
        # Not what was raised in one, which says "in DataLoader worker process".
        if "DataLoader worker (pid" not in str(error):
            raise
        raise OSError(
            f"a process that reads images has ended ({error}). Nothing is lost: the "
            "same command goes on from there, if need be with fewer --workers."
        ) from error


def _finish(folder: Path, experiment: Experiment) -> None:
    """Adds what only all rows together say: top-1, summary and report."""
    from captum_iscam.benchmark.report.page import write_report
    from captum_iscam.benchmark.summary import summarise

    record = read_run(folder)
    right: dict[str, dict[str, bool]] = {name: {} for name in record["models"]}
    seen: dict[str, set[int]] = {name: set() for name in record["models"]}
    for row in read_lines(folder / ROWS):
        if row["prediction"] is None:
            continue
        seen[row["model"]] |= {row["target"], row["prediction"]}
        if row["label"] is not None:
            right[row["model"]][row["image"]] = row["prediction"] == row["label"]
    for explained in experiment.models:
        hits = right[explained.name].values()
        # Names of all classes would make up most of the record.
        named = {
            str(i): explained.network.classes[i] for i in sorted(seen[explained.name])
        }
        record["models"][explained.name] |= {
            "top1": sum(hits) / len(hits) if hits else None,
            "class_names": named,
        }
    write_whole(folder / RUN, as_json(record))
    write_report(folder, summarise(folder))


def _progress(total: int, group: Group) -> tqdm[Any]:
    """A bar of the images of the first process."""
    hidden = group.rank != 0 or not sys.stderr.isatty()
    share = f"1 of {group.size} processes" if group.size > 1 else None
    layout = (
        "{l_bar}{bar}| {n_fmt}/{total_fmt} images, {rate_noinv_fmt}, {remaining} left"
    )
    return tqdm(
        total=total, unit=" images", desc=share, disable=hidden, bar_format=layout
    )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Ends the process by an exception, so that what is being written is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
