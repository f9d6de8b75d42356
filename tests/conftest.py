from pathlib import Path

import pytest
import torch
from reliability.ledger import RECORD, Ledger


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
