"""A weighting scheme of one's own, run as the package runs its own."""

import torch


@torch.no_grad()
def explained_by(explain, scheme, x, target, **options):
    """What the method returns with this scheme."""
    return explain._attribute(
        x,
        target,
        None,
        False,
        True,
        baselines=None,
        channel_softmax=False,
        internal_batch_size=None,
        show_progress=False,
        scheme=scheme,
        **options,
    )
