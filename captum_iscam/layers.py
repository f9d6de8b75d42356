"""Which layer of a network to explain."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import torch
from torch import Tensor, nn

from captum_iscam._utils.inputs import run_once
from captum_iscam._utils.scores import channels_last
from captum_iscam.transformers import (
    reshape_transform_for,
    token_layer,
    transform_by_grid,
)

__all__ = [
    "check_spatial",
    "default_layer",
    "find_layer",
    "reshape_transform_for",
    "spatial_layers",
    "stages",
    "token_layer",
]

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
    as many channels as there are classes, and no module with weights after them, but
    for others of class scores if the output has a score for each pixel. Of
    nested modules with the same output the outermost is taken. For a ViT or DeiT of
    torchvision, timm or Hugging Face, which continue with tokens, it is the input of
    the last attention, and for Swin of the latter two the last norm. Outputs with the
    channels last are ignored where the proportions of the inputs show it.

    Args:
        model (torch.nn.Module): The model, in evaluation mode.
        inputs (Tensor): Inputs `(N, C, *spatial)`; one example is enough. The model
            runs on them once.

    Returns:
        *tuple[str, torch.nn.Module]*: The name, as in `model.named_modules()`, and the
        module.

    Raises:
        ValueError: If no module has such an output, or the model continues with tokens
            `(N, tokens, channels)` or maps `(N, *spatial, K)` after the last one.

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
    steps, output = _trace(model, inputs)
    candidates = [
        index
        for index, step in enumerate(steps)
        if _is_spatial(step.output, inputs)
        and not _in_attention(step, steps)
        and not isinstance(step.module, _POOLS)
        and not _has_scores(steps, index, output, inputs)
    ]
    if not candidates:
        raise ValueError(
            "model must have a module with a spatial output (N, K, ...), got none in "
            f"{type(model).__name__}. Name a layer and pass reshape_transform."
        )
    last = candidates[-1]
    _check_after(steps[last + 1 :], [steps[i] for i in candidates], inputs)
    same = [step for step in steps if step.output is steps[last].output]
    # The first of them made the tensor; its outermost parent with the same output is
    # the layer, not a later module that hands the tensor on.
    maker = same[0]
    parents = [step for step in same if f"{maker.name}.".startswith(f"{step.name}.")]
    layer = min(parents, key=lambda step: step.name.count("."))
    return layer.name, layer.module


def _check_after(
    after: Sequence[_Step], candidates: list[_Step], inputs: Tensor
) -> None:
    """Raises where a model goes on in another form after its last maps."""
    tokens = [
        step.name
        for step in after
        if step.output.dim() == 3 and inputs.dim() != 3 and step.output.shape[1] > 1
    ]
    last = [
        step.name
        for step in after
        # A norm of the maps has no weights but a factor per channel.
        if _is_channels_last(step.output, inputs)
        and any(weight.dim() > 1 for weight in step.module.parameters())
    ]
    if tokens or last:
        form, repair = "tokens", "turns tokens into a grid, such as those"
        if not tokens:
            form, repair = "the channels last", "moves the channels, such as swin"
        raise ValueError(
            f"model must have a spatial output (N, K, ...) near its end, got {form} "
            f'from "{(tokens or last)[-1]}" on. Name a layer that has one: '
            f"{_outer_names(candidates)}; or pass a reshape_transform that {repair} of "
            "captum_iscam.reshape_transforms."
        )


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
        ValueError: With the names of the layers that can be taken instead.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
        >>> check_spatial(model, torch.rand(1, 3, 8, 8), "0")
        >>> check_spatial(model, torch.rand(1, 3, 8, 8), "1")
        Traceback (most recent call last):
            ...
        ValueError: layer must have a spatial output (N, K, ...), got the shape ...
    """
    steps, _ = _trace(model, inputs)
    last = next((step for step in reversed(steps) if step.name == name), None)
    if last is not None and _has_maps(model, steps, last, inputs):
        return
    outputs = [] if last is None else [last.output]
    spatial = [step for step in steps if _has_maps(model, steps, step, inputs)]
    shape = f"the shape {tuple(outputs[-1].shape)}" if outputs else "no tensor"
    if outputs and _is_channels_last(outputs[-1], inputs):
        shape += ", probably with the channels last,"
    elif last is not None and _in_attention(last, steps):
        shape = f"the heads of an attention, {shape},"
    elif outputs and outputs[-1].dim() == inputs.dim() > 2:
        shape = f"one position, {shape},"
    listed = _outer_names(spatial) or "none"
    raise ValueError(
        f'layer must have a spatial output (N, K, ...), got {shape} from "{name}". '
        f"Those that have: {listed}."
    )


def spatial_layers(model: nn.Module, inputs: Tensor) -> list[str]:
    """Returns the names of all layers that can be explained, in order of execution.

    Args:
        model (torch.nn.Module): The model, in evaluation mode.
        inputs (Tensor): Inputs `(N, C, *spatial)`; one example is enough. The model
            runs on them once.

    Returns:
        *list[str]*: Names as in `model.named_modules()`, each once. Those layers have
        outputs `(N, K, *spatial)` with more than one position, if need be reshaped.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
        >>> spatial_layers(model, torch.rand(1, 3, 8, 8))
        ['0']
    """
    steps, _ = _trace(model, inputs)
    found = (step.name for step in steps if _has_maps(model, steps, step, inputs))
    return list(dict.fromkeys(found))


def stages(model: nn.Module, layer: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """Returns the last outermost layer of each size of maps, finest first.

    For `layer4` of a ResNet these are `layer1` to `layer4`. At most four sizes are
    taken, so not the first convolution of a ResNet. Layers with the channels last, as
    most of torchvision's Swin, are ignored.

    Args:
        model (torch.nn.Module): The model, in evaluation mode.
        layer (torch.nn.Module): The coarsest of the layers. One that needs a
            `reshape_transform` stands alone, since the tokens of a transformer keep
            one size.
        inputs (Tensor): Inputs `(N, C, *spatial)`; one example is enough. The model
            runs on them once.

    Returns:
        *list[torch.nn.Module]*: At most four layers; the last is `layer`.

    Examples::

        >>> model = nn.Sequential(
        ...     nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 2)
        ... )
        >>> [type(m).__name__ for m in stages(model, model[3], torch.rand(1, 3, 8, 8))]
        ['ReLU', 'MaxPool2d', 'Conv2d']
    """
    if reshape_transform_for(model, layer) is not None:
        return [layer]
    steps, _ = _trace(model, inputs)
    last = max((i for i, step in enumerate(steps) if step.module is layer), default=-1)
    if last < 0 or not _is_spatial(steps[last].output, inputs):
        return [layer]
    found, size = [layer], steps[last].output.shape[2:]
    by_size: dict[torch.Size, _Step] = {}
    runs = Counter(step.module for step in steps)
    for step in steps[:last]:
        if runs[step.module] > 1:
            continue  # a ReLU that several stages share has no size of its own
        old = by_size.get(step.output.shape[2:])
        # A whole stage rather than a branch inside of the next one, but not a stem
        # rather than a stage that is named below all stages.
        if (
            old is None
            or step.name.count(".") <= old.name.count(".")
            or _n_modules(step) > _n_modules(old)
        ):
            by_size[step.output.shape[2:]] = step
    for shape, step in sorted(by_size.items(), key=lambda item: item[0].numel()):
        factors = [a / b for a, b in zip(shape, size, strict=False)]
        # Outputs with the channels last are stretched along one axis.
        alike = step.output.dim() == inputs.dim() and max(factors) < 2 * min(factors)
        if alike and min(factors) > 1:
            found.append(step.module)
            size = shape
    return found[:4][::-1]


def _n_modules(step: _Step) -> int:
    return sum(1 for _ in step.module.modules())


def _trace(model: nn.Module, inputs: Tensor) -> tuple[list[_Step], object]:
    """Returns every module's step in order, and what the model returned."""
    steps: list[_Step] = []

    def keep(name: str, module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor):
            # Held until the end: else another tensor could take its identity.
            steps.append(_Step(name, module, output))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hook = module.register_forward_hook(partial(keep, name))
                hooks.enter_context(hook)
        output = run_once(model, inputs)
    return steps, output


def _is_spatial(output: Tensor, inputs: Tensor) -> bool:
    return (
        output.dim() == inputs.dim()
        and output.shape[2:].numel() > 1
        and not _is_channels_last(output, inputs)
    )


def _in_attention(step: _Step, steps: list[_Step]) -> bool:
    """Whether a layer gives heads, tokens, and keys or features.

    Then a module next to it gave tokens before, as many as it has on axis 1 or 2.
    """
    shape, parent = step.output.shape, step.name.rpartition(".")[0]
    if len(shape) != 4 or hasattr(step.module, "out_channels"):
        return False
    return any(
        other.output.dim() == 3
        and other.output.shape[1] in shape[1:3]
        and other.name.rpartition(".")[0] == parent
        for other in takewhile(lambda one: one is not step, steps)
    )


def _is_channels_last(output: Tensor, inputs: Tensor) -> bool:
    """Whether there are positions, which fit the input with the channels last alone."""
    return output.shape[1:-1].numel() > 1 and channels_last(output.shape, [inputs])


def _has_maps(
    model: nn.Module, steps: list[_Step], step: _Step, inputs: Tensor
) -> bool:
    """Whether a layer has maps, if need be after the transform of its model."""

    def grid_of(patches: nn.Module, _: object) -> tuple[int, ...] | None:
        grids = (tuple(x.output.shape[2:]) for x in steps if x.module is patches)
        return next(grids, None)

    transform = transform_by_grid(model, step.module, grid_of)
    if transform is None:
        return _is_spatial(step.output, inputs) and not _in_attention(step, steps)
    try:
        maps = transform(step.output)
    except ValueError:
        return False
    # Inside of a window attention the windows stand where the examples should.
    return _is_spatial(maps, inputs) and len(maps) == len(inputs)


def _outer_names(steps: list[_Step]) -> str:
    """Returns the names of the outermost modules, the last twelve of them."""
    names = list(dict.fromkeys(step.name for step in steps))
    depth = min((name.count(".") for name in names), default=0) + 1
    return ", ".join([name for name in names if name.count(".") <= depth][-12:])


def _has_scores(steps: list[_Step], index: int, output: object, inputs: Tensor) -> bool:
    """Whether a step has maps of class scores, or is after these in a second head."""
    named = isinstance(output, Mapping)
    scores = output
    if isinstance(output, Mapping):
        scores = output.get("out", output.get("logits"))
    if not isinstance(scores, Tensor) or scores.dim() < 2:
        return False
    # Maps of another size may be features, of a model that ends in its last layer.
    dense = scores.dim() == inputs.dim() and (
        named or scores.shape[2:] == inputs.shape[2:]
    )
    if scores.dim() != 2 and not dense:
        return False
    # torchvision's second heads for training run after the others.
    if dense and steps[index].name.startswith("aux"):
        return True
    classes = scores.shape[1]
    later = [
        step
        for step in steps[index + 1 :]
        if next(step.module.parameters(recurse=False), None) is not None
        and not (dense and (_gives(step, classes) or step.name.startswith("aux")))
    ]
    return _gives(steps[index], classes) and not later


def _gives(step: _Step, channels: int) -> bool:
    return step.output.dim() > 1 and step.output.shape[1] == channels
