"""What a run is made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def about_device(device: torch.device) -> dict[str, Any]:
    """Returns what the record of a run says of its device."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        tf32 = bool(torch.backends.cudnn.allow_tf32)
        return {"type": device.type, "name": name, "convolutions_in_tf32": tf32}
    name = processor()
    threads, cores = torch.get_num_threads(), os.cpu_count()
    return {"type": device.type, "name": name, "threads": threads, "cores": cores}


def processor() -> str:
    """Returns the name of the processor, or of its kind where the system has no name.

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
