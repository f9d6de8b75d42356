"""From channel weights to maps, and what has to be said about them."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam._utils.warn import warn_of_examples


def softmax_over_channels(weights: Tensor) -> Tensor:
    """Returns the softmax of weights `(N, T, K)` over the channels."""
    shares = torch.softmax(weights, dim=2)
    entropy = torch.special.entr(shares).sum(2)
    warn_of_examples(
        entropy.exp() > 0.99 * shares.shape[2],
        "channel_softmax makes the channel weights all but equal for {}, so the map is "
        "the mean of the channels, whatever the target. Leave it out, or use a score "
        'that varies more, such as score="identity".',
    )
    return shares


def combine(weights: Tensor, activations: Tensor, relu: bool) -> Tensor:
    """Returns `sum_k a_k A_k`, `(N, T, *spatial)`, for weights `(N, T, K)`."""
    flat = activations.flatten(2)
    with torch.autocast(activations.device.type, enabled=False):
        summed = torch.bmm(weights.to(flat.dtype), flat)
    attributions = summed.view(*weights.shape[:2], *activations.shape[2:])
    if not relu:
        return attributions
    warn_of_examples(
        (attributions <= 0).flatten(2).all(2),
        "The map is zero everywhere for {}: what supports the target is in no "
        "channel. relu_attributions=False shows what opposes it.",
    )
    return attributions.relu()


def relative_error(squared_error: Tensor, attributions: Tensor) -> Tensor:
    """Returns an estimate of the relative error of each map, `(N, T)`.

    Twice the standard error over the norm of the map: 0 for a map that is exact,
    infinite where nothing is known.

    Args:
        squared_error (Tensor): Of the map before ReLU, `(N, T)`, in double precision.
        attributions (Tensor): The maps `(N, T, *spatial)`.
    """
    # In double precision, where large scores do not overflow.
    norms = attributions.cpu().double().flatten(2).norm(dim=2)
    exact = torch.zeros_like(norms)
    found = torch.where(squared_error == 0, exact, 2 * squared_error.sqrt() / norms)
    # What is unknown must not pass for exact.
    found = found.nan_to_num(nan=torch.inf, posinf=torch.inf)
    return found.to(attributions.dtype).to(attributions.device)
