"""Runs that are killed, stopped, starved of room or doubled."""

import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pytest
from reference.benchmark_runs import result, rows, run, run_alone
from reference.ledger import cases

from captum_iscam.benchmark import storage

SAME = "A killed benchmark, resumed, ends with the rows of an undisturbed one."
_MODULES = [
    "reference.benchmark_runs",
    "captum_iscam.cli.benchmark",
    "captum_iscam.benchmark.report.page",
    "captum_iscam.benchmark.summary",
]


@pytest.fixture(scope="module")
def start():
    """Starts a run in a process of its own, which has imported everything before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)

    def begin(folder, *words):
        process = context.Process(target=run_alone, args=(folder, *words))
        process.start()
        return process

    return begin


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, start):
    """A folder nobody disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    start(tmp_path_factory.mktemp("warm")).join()
    began = time.monotonic()
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    return folder, time.monotonic() - began


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path, start, undisturbed, ledger):
    expected, seconds = result(undisturbed[0]), undisturbed[1]
    count = cases(20, 100)
    moments = np.random.default_rng(0).uniform(0.02, 0.8, count) * seconds
    folder, finished, in_the_middle = tmp_path / "0", 0, 0

    for moment in moments:
        process = start(folder)
        process.join(moment)
        process.kill()
        process.join()
        file = storage.rank_file(folder, storage.ROWS, 0)
        in_the_middle += file.exists() and 0 < len(storage.read_rows(folder)) < 72
        if process.exitcode == 0:
            assert result(folder) == expected
            finished += 1
            folder = tmp_path / str(finished)
    process = start(folder)
    process.join()

    assert process.exitcode == 0
    assert result(folder) == expected
    assert in_the_middle > count // 4
    ledger.survived("Disk and processes", SAME, count)


def wait_for_rows(folder, count, file="rank0.jsonl", patience=60):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        file_of_rows = folder / storage.ROWS / file
        if file_of_rows.exists() and file_of_rows.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise TimeoutError(f"{folder} has not {count} rows after {patience} s")


def test_sigterm_ends_between_rows(tmp_path, start, undisturbed, ledger):
    process = start(tmp_path, "--samples", "8")
    wait_for_rows(tmp_path, 3)

    os.kill(process.pid, signal.SIGTERM)
    process.join()

    assert process.exitcode == 128 + signal.SIGTERM
    file = storage.rank_file(tmp_path, storage.ROWS, 0)
    assert file.read_bytes().endswith(b"\n")
    assert 3 <= len(rows(tmp_path)) < 8 * 24
    resumed = start(tmp_path, "--samples", "8")
    resumed.join()
    assert resumed.exitcode == 0
    assert len(rows(tmp_path)) == 8 * 24
    ledger.survived("Disk and processes", SAME, 1)


def test_a_resumed_run_says_what_it_found(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0], tmp_path / "out")
    file = storage.rank_file(tmp_path / "out", storage.ROWS, 0)
    file.write_bytes(file.read_bytes()[:-7])
    with storage.rank_file(tmp_path / "out", storage.CURVES, 0).open("ab") as stream:
        stream.write(b'{"image":"sce')
    left = next((tmp_path / "out" / storage.MAPS).rglob("*.png")).parent
    (left / ".captum-iscam.key.png.3.part").write_bytes(b"half")

    code, said = run(tmp_path / "out")

    assert code == 0
    assert "has 71 rows already; the run continues" in said
    assert (
        "2 incomplete lines and 1 unfinished files are removed and computed again"
        in said
    )
    assert not (left / ".captum-iscam.key.png.3.part").exists()
    assert result(tmp_path / "out") == result(undisturbed[0])


def test_a_second_run_in_the_folder_is_refused(tmp_path, start, ledger):
    process = start(tmp_path, "--samples", "8")
    wait_for_rows(tmp_path, 1)
    os.kill(process.pid, signal.SIGSTOP)

    code, said = run(tmp_path, "--samples", "8")

    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 0
    assert code == 2
    assert "out must be a folder no other run writes to" in said
    assert f"process {process.pid} is at work" in said
    assert len(rows(tmp_path)) == 8 * 24
    ledger.survived(
        "Disk and processes", "A second run at the same time is refused.", 1
    )


@pytest.mark.parametrize("kilobytes", [8, 24, 40, 72, 104, 136])
def test_a_full_disk_is_said_and_resumed_from(
    kilobytes, small_disk, undisturbed, ledger
):
    out = small_disk(kilobytes) / "out"

    code, said = run(out)

    assert code == 1
    assert "No space left on device" in said
    for kind in (storage.ROWS, storage.CURVES):
        for file in (out / kind).glob("*"):
            content = file.read_bytes()
            assert not content or content.endswith(b"\n")
    small_disk(20_000, "remount,")
    assert run(out)[0] == 0
    assert result(out) == result(undisturbed[0])
    ledger.survived(
        "Disk and processes",
        "A full disk is said, leaves whole files, and the next run completes them.",
        1,
    )


def test_a_disk_that_cannot_be_written_is_said_at_the_start(small_disk, ledger):
    folder = small_disk(100)
    small_disk(100, "remount,ro,")

    code, said = run(folder)

    assert code == 2
    assert "out must be a folder that can be written" in said
    ledger.survived(
        "Disk and processes", "A disk that cannot be written is said at the start.", 1
    )
