"""What a measurement was made on and with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

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
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """Returns the processor's name and its vector instructions that matter here."""
    return f"{_model_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _model_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0].partition(":")[2].strip() if names else platform.machine()
