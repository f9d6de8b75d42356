"""Several processes share a run and change nothing of its result."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from journeys.test_kills import wait_for_rows
from reference.benchmark_runs import command, result, rows, run

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.distributed import Group

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # As many as torchrun's processes have: on some processors the last digits of a
    # convolution depend on the number of threads.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert run(folder, "--samples", "8")[0] == 0
    return folder


def torchrun(folder, *words, processes=2):
    launch = ["-m", "torch.distributed.run", "--standalone"]
    launch += [f"--nproc-per-node={processes}", *words, "-m", "captum_iscam"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launch, *command(folder, "--samples", "8")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process):
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def child_of_rank(parent, rank):
    """Returns the process id of a rank that torchrun has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            above = entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            words = entry.joinpath("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(above) == parent and f"RANK={rank}".encode() in words:
            return int(entry.name)
    raise LookupError(f"no rank {rank} below {parent}")


def test_two_processes_give_what_one_gives(tmp_path, alone):
    code, said = ended(torchrun(tmp_path))

    assert code == 0, said
    assert result(tmp_path) == result(alone)
    images = [image["id"] for image in storage.read_run(alone)["data"]["images"]]
    for rank in (0, 1):
        file = storage.rank_file(tmp_path, storage.ROWS, rank)
        mine = [name for name in images if f'"{name}"' in file.read_text()]
        assert mine == images[rank::2]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_started_again_and_loses_nothing(tmp_path, alone, rank):
    process = torchrun(tmp_path, "--max-restarts=1")
    wait_for_rows(tmp_path, 5, f"rank{rank}.jsonl", patience=120)

    os.kill(child_of_rank(process.pid, rank), signal.SIGKILL)
    code, said = ended(process)

    assert code == 0, said
    assert said.count("8 images (scenes), scene-net") == 2
    assert result(tmp_path) == result(alone)


def test_another_number_of_processes_goes_on(tmp_path, alone):
    process = torchrun(tmp_path, processes=3)
    for rank in range(3):
        wait_for_rows(tmp_path, 1, f"rank{rank}.jsonl", patience=120)
    process.send_signal(signal.SIGTERM)
    ended(process)
    done = len(rows(tmp_path))

    code, said = run(tmp_path, "--samples", "8")

    assert 3 <= done < 8 * 24
    assert code == 0, said
    assert result(tmp_path) == result(alone)


def test_a_refusal_is_said_once_and_ends_all(tmp_path):
    assert run(tmp_path, "--samples", "1")[0] == 0
    began = time.monotonic()

    code, said = ended(torchrun(tmp_path))

    assert code != 0
    assert said.count("must be a folder of the same experiment") == 1
    assert time.monotonic() - began < 120


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda", 1, "a GPU for each of the 2 processes"),
        ("cuda:0", 2, "got cuda:0 and 2 GPUs"),
        ("auto", 1, "Start one process per GPU"),
    ],
)
def test_processes_need_a_gpu_each(monkeypatch, name, gpus, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    environment = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(value))

    with pytest.raises(ValueError, match=message):
        Group().device_name(name)


def test_each_process_has_its_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    environment = {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2, "RANK": 3, "LOCAL_RANK": 1}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(value))

    assert Group().device_name("auto") == "cuda:1"
    assert Group().device_name("cpu") == "cpu"
