"""Which layer of a network to explain."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_iscam._utils.training import keeping_buffers
from captum_iscam.reshape_transforms import (
    ReshapeTransform,
    maxvit_grid,
    maxvit_windows,
    swin,
    vit,
)

_POOLS = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)


@dataclass(frozen=True)
class _Step:
    """A module that has run, by name, and what it gave."""

    name: str
    module: nn.Module
    output: Tensor


def default_layer(model: nn.Module, inputs: Tensor) -> tuple[str, nn.Module]:
    """Returns the last layer with a spatial output, as the papers choose it.

    That is the last module in the order of execution whose output is `(N, K, *spatial)`
    with more than one position: `layer4` of a ResNet, `features` of a VGG or
    SqueezeNet. A pooling to a fixed size is ignored, and so are maps of class scores:
    as many channels as there are classes, and no module with weights after them. Of
    nested modules with the same output the outermost is taken. For torchvision's ViT,
    which continues with tokens, it is the input of the last attention.

    Args:
        model (torch.nn.Module): The model, in evaluation mode.
        inputs (Tensor): Inputs `(N, C, *spatial)`; one example is enough. The model
            runs on them once.

    Returns:
        *tuple[str, torch.nn.Module]*: The name, as in `model.named_modules()`, and the
        module.

    Raises:
        ValueError: If no module has such an output, or the model continues with tokens
            `(N, tokens, channels)` after the last one.

    Examples::

        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> pool = nn.AdaptiveAvgPool2d(2)
        >>> model = nn.Sequential(features, pool, nn.Flatten(), nn.Linear(16, 5))
        >>> default_layer(model, torch.rand(1, 3, 8, 8))[0]
        '0'
    """
    known = token_layer(model)
    if known is not None:
        return known
    steps, classes = _trace(model, inputs)
    candidates = [
        index
        for index, step in enumerate(steps)
        if _is_spatial(step.output, inputs)
        and not isinstance(step.module, _POOLS)
        and not (step.output.shape[1] == classes and not _weights_after(steps, index))
    ]
    if not candidates:
        raise ValueError(
            "model must have a module with a spatial output (N, K, ...), got none in "
            f"{type(model).__name__}. Name a layer and pass reshape_transform."
        )
    last = candidates[-1]
    tokens = [
        step.name
        for step in steps[last + 1 :]
        if step.output.dim() == 3 and inputs.dim() != 3 and step.output.shape[1] > 1
    ]
    if tokens:
        raise ValueError(
            "model must have a spatial output (N, K, ...) near its end, got tokens "
            f'from "{tokens[-1]}" on. Name a layer and pass a reshape_transform that '
            "turns its tokens into a grid, such as those of "
            "captum_iscam.reshape_transforms."
        )
    same = [step for step in steps if step.output is steps[last].output]
    # The first of them made the tensor; its outermost parent with the same output is
    # the layer, not a later module that hands the tensor on.
    maker = same[0]
    parents = [step for step in same if f"{maker.name}.".startswith(f"{step.name}.")]
    layer = min(parents, key=lambda step: step.name.count("."))
    return layer.name, layer.module


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Returns the module of that name, or raises an error that lists the names.

    Args:
        model (torch.nn.Module): The model.
        name (str): Name of the layer as in `model.named_modules()`, for example
            "layer4.1".

    Returns:
        *torch.nn.Module*: The module itself, not a copy.

    Raises:
        ValueError: If there is none; the message names those most alike.

    Examples::

        >>> find_layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "1")
        ReLU()
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    del modules[""]
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=4, cutoff=0.5)
    top = [child for child, _ in model.named_children()]
    listed = ", ".join(dict.fromkeys([*near, *top]))
    raise ValueError(
        f"layer must be the name of a module of the model, got {name!r}. "
        f"Take one of {listed}, or a module inside of them."
    )


def check_spatial(model: nn.Module, inputs: Tensor, name: str) -> None:
    """Raises unless the layer runs and has maps for the inputs, if need be reshaped.

    Args:
        model (torch.nn.Module): The model, in evaluation mode.
        inputs (Tensor): Inputs `(N, C, *spatial)`; one example is enough. The model
            runs on them once.
        name (str): Name of the layer as in `model.named_modules()`, for example
            "layer4.1".

    Raises:
        ValueError: With the names of the layers that can be taken instead, or from the
            `reshape_transform` of a transformer that cannot read the layer.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
        >>> check_spatial(model, torch.rand(1, 3, 8, 8), "0")
        >>> check_spatial(model, torch.rand(1, 3, 8, 8), "1")
        Traceback (most recent call last):
            ...
        ValueError: layer must have a spatial output (N, K, ...), got the shape ...
    """
    steps, _ = _trace(model, inputs)
    outputs = [step.output for step in steps if step.name == name]
    transform = reshape_transform_for(model, model.get_submodule(name))
    if outputs and transform is not None:
        transform(outputs[-1])
        return
    if outputs and _is_spatial(outputs[-1], inputs):
        return
    spatial = [step.name for step in steps if _is_spatial(step.output, inputs)]
    shape = f"the shape {tuple(outputs[-1].shape)}" if outputs else "no tensor"
    if outputs and outputs[-1].dim() == inputs.dim() > 2:
        shape = f"one position, {shape},"
    listed = ", ".join(dict.fromkeys(n for n in spatial if n.count(".") < 2)) or "none"
    raise ValueError(
        f'layer must have a spatial output (N, K, ...), got {shape} from "{name}". '
        f"Those that have: {listed}."
    )


def _trace(model: nn.Module, inputs: Tensor) -> tuple[list[_Step], int | None]:
    """Returns every module's step in order, and the number of classes if known."""
    steps: list[_Step] = []
    handles = []

    def hook_for(name: str) -> None:
        def hook(module: nn.Module, _: object, output: object) -> None:
            if isinstance(output, Tensor):
                # Held until the end: else another tensor could take its identity.
                steps.append(_Step(name, module, output))

        handles.append(modules[name].register_forward_hook(hook))

    modules = dict(model.named_modules())
    try:
        for name in modules:
            if name:
                hook_for(name)
        with torch.no_grad():
            # A copy, since a model may write to its input.
            output = keeping_buffers(model, by_flag=False)(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    spread = isinstance(output, Tensor) and output.dim() == 2
    return steps, output.shape[1] if spread else None


def _is_spatial(output: Tensor, inputs: Tensor) -> bool:
    return output.dim() == inputs.dim() and output.shape[2:].numel() > 1


def _weights_after(steps: list[_Step], index: int) -> bool:
    """Whether a module with weights of its own runs after the step `index`."""
    later = (step.module.parameters(recurse=False) for step in steps[index + 1 :])
    return any(next(own, None) is not None for own in later)


def token_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Returns the layer of a ViT to explain, and its name; None for other models.

    That is the layer norm in front of the last attention: behind it only the class
    token reaches the head, so the patches have no influence any more. The last layers
    of torchvision's Swin and MaxViT have maps and need no exception.

    Args:
        model (torch.nn.Module): Any model.

    Returns:
        *tuple[str, torch.nn.Module]*: The name, as in `model.named_modules()`, and the
        module; None where the model is no ViT of torchvision.

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
