import subprocess
from pathlib import Path

import pytest
import torch
from reference.ledger import RECORD, Ledger


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def ledger():
    """Where tests enter how many cases of a promise survived."""
    ledger = Ledger()
    yield ledger
    if RECORD:
        ledger.save(Path(RECORD))


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many kilobytes; the same again gives it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes, option=""):
        words = ["mount", "-t", "tmpfs", "-o", f"{option}size={kilobytes}k", "tmpfs"]
        try:
            done = subprocess.run([*words, str(folder)], capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs the command mount")
        if done.returncode:
            pytest.skip("needs the right to mount a disk")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)
