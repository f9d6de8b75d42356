"""From channel weights to maps, and what has to be said about them."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam._warnings import warn_user


def softmax_over_channels(weights: Tensor) -> Tensor:
    shares = torch.softmax(weights, dim=1)
    entropy = torch.special.entr(shares).sum(1)
    warn_of_examples(
        entropy.exp() > 0.99 * shares.shape[1],
        "channel_softmax makes the channel weights all but equal for {}, so the map is "
        "the mean of the channels, whatever the target. Leave it out, or use a score "
        'that varies more, such as score="identity".',
    )
    return shares


def combine(weights: Tensor, activations: Tensor, relu: bool) -> Tensor:
    """Returns `sum_k a_k A_k`, `(N, 1, *spatial)`, rectified on request."""
    flat = activations.flatten(2)
    with torch.autocast(activations.device.type, enabled=False):
        summed = torch.bmm(weights.to(flat.dtype).unsqueeze(1), flat)
    attributions = summed.view(len(flat), 1, *activations.shape[2:])
    if not relu:
        return attributions
    warn_of_examples(
        (attributions <= 0).flatten(1).all(1),
        "The map is zero everywhere for {}: what speaks for the target is in no "
        "channel. relu_attributions=False shows what speaks against it.",
    )
    return attributions.relu()


def warn_of_examples(which: Tensor, text: str) -> None:
    """Warns once, naming the examples, where there are any."""
    numbers = which.nonzero().reshape(-1).tolist()
    if numbers:
        names = ", ".join(str(number) for number in numbers[:10])
        more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
        plural = "s" if len(numbers) > 1 else ""
        warn_user(text.format(f"example{plural} {names}{more}"))


def relative_error(error: Tensor, attributions: Tensor) -> Tensor:
    """Returns an estimate of the relative error of each map, `(N,)`.

    Twice the standard error over the norm of the map: it holds for about 19 maps out
    of 20 where errors are normally distributed. 0 for a map that is exact,
    infinite where nothing is known.
    """
    norms = attributions.flatten(1).norm(dim=1).to(error)
    found = torch.where(error == 0, torch.zeros_like(error), 2 * error / norms)
    # What cannot be told must not pass for exact.
    return found.nan_to_num(nan=torch.inf, posinf=torch.inf)
