"""Transformers known by name: the layer to explain, and the maps of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from torch import Tensor, nn

from captum_iscam._utils.inputs import run_once
from captum_iscam.reshape_transforms import (
    ReshapeTransform,
    maxvit_grid,
    maxvit_windows,
    swin,
    tokens,
    vit,
)

__all__ = ["reshape_transform_for", "token_layer"]

Grid = tuple[int, ...]
# Takes what makes the patches of a model, and the size of image it was made for;
# returns the patches in each direction, None where they are those it was made for.
GridOf = Callable[[nn.Module, Any], Grid | None]


def token_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Returns the layer of a transformer to explain, and its name; None for others.

    For a ViT or DeiT that is the layer norm in front of the last attention: behind it
    only the class token reaches the head, so the patches have no influence any more.
    Swin averages all positions, so it is the last norm there. The last layers of
    torchvision's Swin and MaxViT have maps and need no exception.

    Args:
        model (torch.nn.Module): Any model, or a wrapper of one.

    Returns:
        *tuple[str, torch.nn.Module]*: The name, as in `model.named_modules()`, and the
        module; None where the model is no such transformer of torchvision, timm or
        Hugging Face.

    Examples::

        >>> token_layer(nn.Sequential(nn.Conv2d(3, 4, 3))) is None
        True
    """
    for parent, module in model.named_modules():
        for library, kind, block, norm in _TRANSFORMERS:
            if not _is(module, library, kind):
                continue
            blocks = (n for n, m in module.named_modules() if _is(m, library, block))
            last = next(reversed(list(blocks)), None)
            if last is not None:
                name = ".".join(filter(None, (parent, last, norm)))
                return name, model.get_submodule(name)
    return None


# Library and class of a transformer, and the layer to explain: a name inside of the
# last module of another class. By name, so that no library is imported.
_TRANSFORMERS = (
    ("torchvision", "VisionTransformer", "EncoderBlock", "ln_1"),
    ("timm", "VisionTransformer", "Block", "norm1"),
    ("timm", "SwinTransformer", "SwinTransformer", "norm"),
    ("timm", "SwinTransformerV2", "SwinTransformerV2", "norm"),
    ("transformers", "ViTModel", "ViTLayer", "layernorm_before"),
    ("transformers", "DeiTModel", "DeiTLayer", "layernorm_before"),
    ("transformers", "SwinModel", "SwinModel", "layernorm"),
    ("transformers", "Swinv2Model", "Swinv2Model", "layernorm"),
)


def _is(module: nn.Module, library: str, kind: str) -> bool:
    return any(
        base.__name__ == kind and base.__module__.partition(".")[0] == library
        for base in type(module).__mro__
    )


def reshape_transform_for(
    model: nn.Module, layer: nn.Module, inputs: Tensor | None = None
) -> ReshapeTransform | None:
    """Returns what turns a layer of a known transformer into maps.

    Tokens do not tell their grid: 196 of them are 14 x 14 or 7 x 28. Without `inputs`
    it is the grid that a ViT was made for, or a square for Hugging Face's Swin.

    Args:
        model (torch.nn.Module): The model, of any kind, or a wrapper of one.
        layer (torch.nn.Module): One of its modules.
        inputs (Tensor, optional): Inputs `(N, C, *spatial)` like those to be explained;
            one example is enough. Where they have another size than the transformer was
            made for, the model runs once, and the grid is that of its patches then.
            Default: None

    Returns:
        *Callable* of :mod:`captum_iscam.reshape_transforms`, or None where the layer
        needs none: convolutions and modules of other models. Known are ViT, Swin and
        MaxViT of torchvision, and ViT, DeiT, Swin and Swin V2 of timm and Hugging
        Face.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3))
        >>> reshape_transform_for(model, model[0]) is None
        True
    """
    return transform_by_grid(model, layer, partial(_grid_in_pass, model, inputs))


def transform_by_grid(
    model: nn.Module, layer: nn.Module, grid_of: GridOf
) -> ReshapeTransform | None:
    """Returns what turns a layer into maps, given the grid of the patches.

    Args:
        model (torch.nn.Module): The model.
        layer (torch.nn.Module): One of its modules.
        grid_of (Callable): Asked for the grid where a model takes inputs of any size.
    """
    for module in model.modules():
        for (library, kind), transform_for in _TRANSFORMS.items():
            if _is(module, library, kind):
                found = transform_for(module, layer, grid_of)
                if found is not None:
                    return found
    return None


def _grid_in_pass(
    model: nn.Module, inputs: Tensor | None, patches: nn.Module, size: Any
) -> Grid | None:
    if inputs is None or tuple(inputs.shape[2:]) == size:
        return None
    found: list[Grid] = []
    with patches.register_forward_hook(
        lambda _, __, output: found.append(tuple(output.shape[2:]))
    ):
        run_once(model, inputs[:1])
    return found[-1] if found else None


def _of_vit(model: Any, layer: nn.Module, _: GridOf) -> ReshapeTransform | None:
    return vit if _inside(model.encoder, layer) else None


def _of_swin(model: Any, layer: nn.Module, _: GridOf) -> ReshapeTransform | None:
    first = model.features[0][0]  # the one convolution
    channels_last = model.norm is layer or _inside(model.features, layer)
    return swin if channels_last and layer is not first else None


def _of_maxvit(model: Any, layer: nn.Module, _: GridOf) -> ReshapeTransform | None:
    for module in model.modules():
        if _is(module, "torchvision", "PartitionAttentionLayer") and (
            _inside(module.attn_layer, layer) or _inside(module.mlp_layer, layer)
        ):
            grid = module.partition_type == "grid"
            return maxvit_grid if grid else maxvit_windows
    return None


def _of_timm_vit(
    model: Any, layer: nn.Module, grid_of: GridOf
) -> ReshapeTransform | None:
    if not any(_inside(part, layer) for part in (model.blocks, model.norm)):
        return None
    patches = model.patch_embed
    grid = grid_of(patches.proj, patches.img_size) or patches.grid_size
    return tokens(tuple(grid) if grid else None, model.num_prefix_tokens)


def _of_timm_swin(model: Any, layer: nn.Module, _: GridOf) -> ReshapeTransform | None:
    return swin if model.norm is layer or _inside(model.layers, layer) else None


def _of_hugging_face_vit(
    model: Any, layer: nn.Module, grid_of: GridOf
) -> ReshapeTransform | None:
    if not _inside(model, layer) or _inside(model.embeddings, layer):
        return None
    size, grid = _configured(model.config)
    grid = grid_of(model.embeddings.patch_embeddings.projection, size) or grid
    # The class token, and DeiT's for distillation.
    return tokens(grid, 2 if _is(model, "transformers", "DeiTModel") else 1)


def _of_hugging_face_swin(
    model: Any, layer: nn.Module, grid_of: GridOf
) -> ReshapeTransform | None:
    if model.layernorm is not layer and not _inside(model.encoder, layer):
        return None
    # It takes images of any size, so none is the one that it was made for.
    grid = grid_of(model.embeddings.patch_embeddings.projection, None)
    return tokens(extra=0) if grid is None else partial(_merged, grid=grid)


def _merged(output: Tensor, *, grid: Grid) -> Tensor:
    """Returns maps of tokens of which each stage merges 2 x 2, rounding up."""
    size = grid
    while output.dim() == 3 and output.shape[1] < prod(size) > 1:
        size = tuple(-(-side // 2) for side in size)
    return tokens(size, extra=0)(output)


def _configured(config: Any) -> tuple[Grid, Grid]:
    """Returns the size of image that a model was made for, and the grid."""
    size, patch = (
        tuple(sides) if isinstance(sides, list | tuple) else (sides, sides)
        for sides in (config.image_size, config.patch_size)
    )
    return size, tuple(side // of for side, of in zip(size, patch, strict=True))


_Finder = Callable[[Any, nn.Module, GridOf], ReshapeTransform | None]
_TRANSFORMS: dict[tuple[str, str], _Finder] = {
    ("torchvision", "VisionTransformer"): _of_vit,
    ("torchvision", "SwinTransformer"): _of_swin,
    ("torchvision", "MaxVit"): _of_maxvit,
    ("timm", "VisionTransformer"): _of_timm_vit,
    ("timm", "SwinTransformer"): _of_timm_swin,
    ("timm", "SwinTransformerV2"): _of_timm_swin,
    ("transformers", "ViTModel"): _of_hugging_face_vit,
    ("transformers", "DeiTModel"): _of_hugging_face_vit,
    ("transformers", "SwinModel"): _of_hugging_face_swin,
    ("transformers", "Swinv2Model"): _of_hugging_face_swin,
}


def _inside(parent: nn.Module, layer: nn.Module) -> bool:
    return any(module is layer for module in parent.modules())
