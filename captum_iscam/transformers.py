"""torchvision's transformers: which layer to explain, and what makes maps of it.

Importing torchvision is left to the functions, so that importing this costs nothing.
"""

from __future__ import annotations

from torch import nn

from captum_iscam.attr._layer import ReshapeTransform
from captum_iscam.reshape_transforms import maxvit_grid, maxvit_windows, swin, vit


def token_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Returns the layer of a ViT to explain, and its name; None for other models.

    That is the layer norm in front of the last attention: behind it only the class
    token reaches the head, so nothing at the patches matters any more. The last layers
    of torchvision's Swin and MaxViT have maps and need no exception.

    Args:
        model (torch.nn.Module): Any model.

    Examples::

        >>> token_layer(nn.Sequential(nn.Conv2d(3, 4, 3))) is None
        True
    """
    from torchvision.models import VisionTransformer

    if not isinstance(model, VisionTransformer):
        return None
    block, _ = list(model.encoder.layers.named_children())[-1]
    name = f"encoder.layers.{block}.ln_1"
    return name, model.get_submodule(name)


def reshape_transform_for(
    model: nn.Module, layer: nn.Module
) -> ReshapeTransform | None:
    """Returns what turns a layer of torchvision's transformers into maps.

    Args:
        model (torch.nn.Module): The model, of any kind.
        layer (torch.nn.Module): One of its modules.

    Returns:
        *Callable* of :mod:`captum_iscam.reshape_transforms`, or None where the layer
        needs none: convolutions and modules of other models.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3))
        >>> reshape_transform_for(model, model[0]) is None
        True
    """
    from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
    from torchvision.models.maxvit import PartitionAttentionLayer

    if isinstance(model, VisionTransformer):
        return vit if _inside(model.encoder, layer) else None
    if isinstance(model, SwinTransformer):
        first = model.features[0][0]  # the one convolution
        tokens = model.norm is layer or _inside(model.features, layer)
        return swin if tokens and layer is not first else None
    if isinstance(model, MaxVit):
        for module in model.modules():
            if isinstance(module, PartitionAttentionLayer) and (
                _inside(module.attn_layer, layer) or _inside(module.mlp_layer, layer)
            ):
                grid = module.partition_type == "grid"
                return maxvit_grid if grid else maxvit_windows
    return None


def _inside(parent: nn.Module, layer: nn.Module) -> bool:
    return any(module is layer for module in parent.modules())
