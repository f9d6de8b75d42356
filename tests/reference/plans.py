"""A plan of one's own, run as the package runs its own."""

import torch


@torch.no_grad()
def explained_by(explain, plan, x, target, **options):
    """What the method returns with this plan."""
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
        plan=plan,
        **options,
    )
