"""Which deviations the rule of the SS-CAM authors' code comes to, channel by channel.

    python -m experiments.ss_cam_noise.rule OUT.md --photographs 40

masks photographs by each channel that varies and lists the deviations `(2 / range)**2`:
over channels the smallest, the median, the 90th percentile and the largest, each the
median over photographs. No masked photograph is shown to the network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from captum_iscam._utils.inputs import check_inputs
from captum_iscam.attr._layer import evaluate_layer
from captum_iscam.attr._masking import MaskedInputs, _authors_stdev
from captum_iscam.benchmark.markdown import markdown_table
from experiments.quality.photographs import as_input, asked, network, photographs

QUANTILES = (0.0, 0.5, 0.9, 1.0)


@torch.no_grad()
def deviations(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """Returns the deviation for each channel that varies."""
    batch = check_inputs(x, None, model)
    maps, _ = evaluate_layer(model, layer, batch.inputs, None, None, False)
    flat = maps[0].flatten(2)[0]
    varying = (flat.amax(1) > flat.amin(1)).nonzero().squeeze(1)
    masked_inputs, found = MaskedInputs(batch, maps[0]), []
    for few in varying.split(64):
        whole = torch.ones(len(few), 1)
        (masked,) = masked_inputs.make(
            torch.zeros_like(few), few, whole, slice(0, len(few))
        )
        found.append(_authors_stdev(masked).flatten())
    return torch.cat(found)


def main() -> None:
    """Writes the table."""
    args = asked(__doc__)
    inputs = [as_input(file) for file in photographs(args.photographs)]
    heading = [f"deviation, {len(inputs)} photographs", "smallest", "median"]
    lines = []
    for name in args.networks:
        model, layer = network(name)
        of_each = [np.quantile(deviations(model, layer, x), QUANTILES) for x in inputs]
        cells = [f"{value:.2f}" for value in np.median(of_each, axis=0)]
        lines.append([name, *cells])
    heading += ["90th percentile", "largest"]
    args.out.write_text(markdown_table(heading, lines, left=None) + "\n")


if __name__ == "__main__":
    main()
