"""What a measurement was made on and with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from captum_iscam.benchmark.experiment import processor

PACKAGES = ("captum", "captum_iscam", "grad-cam", "torch", "torchcam", "torchvision")


def environment(device: str) -> dict[str, object]:
    """Returns versions, threads and processor or card."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "type": device,
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """Returns the processor's name and its vector instructions that matter here."""
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
