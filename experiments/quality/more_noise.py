"""A plugin of the benchmark: SS-CAM with a standard deviation of 0.1, as `ss-cam-0.1`.

    captum-iscam benchmark --plugin experiments/quality/more_noise.py

So one run has it next to SS-CAM with the authors' noise.
"""

from __future__ import annotations

from dataclasses import replace

from captum_iscam.methods import METHODS, register_method

PLAIN = METHODS["ss-cam"]
register_method(
    "ss-cam-0.1",
    replace(
        PLAIN,
        title="SS-CAM, 0.1",
        takes=tuple(name for name in PLAIN.takes if name != "stdevs"),
        fixed={**PLAIN.fixed, "stdevs": 0.1},
    ),
)
