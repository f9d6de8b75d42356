"""From tokens to maps: `reshape_transform`s for transformers.

Attribution methods need a layer's output as `(N, K, *spatial)`. Convolutions return
that; transformers return rows of tokens, or have the channels last. Inputs are
`(N, C, *spatial)`: `channels_first` wraps models that take them in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt, prod
from typing import Any

from torch import Tensor, nn

ReshapeTransform = Callable[[Tensor], Tensor]


READY_MADE = (
    "Pass reshape_transform to turn the tokens into a grid. "
    "captum_iscam.layers.reshape_transform_for(model, layer, inputs) finds it for "
    "transformers of torchvision, timm and Hugging Face; ready made in "
    "captum_iscam.reshape_transforms are vit (torchvision's ViT), swin (Swin and all "
    "with the channels last), maxvit_windows and maxvit_grid (inside MaxViT), and "
    "tokens(grid, extra) for any other."
)


def channels_first(model: Callable[..., Tensor], layout: str) -> nn.Module:
    """Returns the model for inputs `(N, C, *spatial)`, whatever order it takes itself.

    Attribution methods read inputs as `(N, C, *spatial)`, and would mask other axes of
    a model that takes them otherwise. Layers inside of it are explained as before. For
    `torch.compile`, compile what this function returns.

    Args:
        model (torch.nn.Module or Callable): The model. Each argument with as many
            dimensions as the layout is brought to it, any other passes as it is.
        layout (str): The axes in the order of the model: N, C and one to three letters
            for the spatial axes, N first. "NHWC" for images with the channels last,
            "NTC" for sequences, "NTCHW" for videos with the frames first.

    Returns:
        *torch.nn.Module*, in the mode that the model is in now, training or evaluation.

    Raises:
        ValueError: If `layout` is none; from the module, if its first argument has
            another number of dimensions.
        TypeError: If `model` cannot be called.

    Examples::

        >>> import torch
        >>> def brightness(images):  # (N, H, W, C)
        ...     return images.mean((1, 2))
        >>> channels_first(brightness, "NHWC")(torch.rand(2, 3, 8, 6)).shape
        torch.Size([2, 3])
    """
    if not callable(model):
        raise TypeError(
            f"model must be a callable, got {type(model).__name__}. Pass a module or a "
            "function of the inputs."
        )
    letters = layout if isinstance(layout, str) else ""
    once = len(set(letters)) == len(letters) and letters.isalpha()
    if not (once and letters.isupper() and letters[0] == "N" and "C" in letters) or (
        not 3 <= len(letters) <= 5
    ):
        raise ValueError(
            "layout must be N, C and one to three letters for the spatial axes, N "
            f'first, got {layout!r}. Write the model\'s order, such as "NHWC".'
        )
    return _ChannelsFirst(model, letters)


class _ChannelsFirst(nn.Module):
    def __init__(self, model: Callable[..., Tensor], layout: str) -> None:
        super().__init__()
        self.model = model
        self.layout = layout
        ours = "NC" + layout.replace("N", "").replace("C", "")
        self._order = [ours.index(letter) for letter in layout]
        self.training = bool(getattr(model, "training", False))

    def forward(self, inputs: Tensor, *further: Any) -> Tensor:
        if inputs.dim() != len(self.layout):
            raise ValueError(
                f"inputs must have {len(self.layout)} dimensions, those of "
                f'"{self.layout}" with C second, got the shape {tuple(inputs.shape)}. '
                "Pass inputs (N, C, *spatial)."
            )
        return self.model(*map(self._permuted, (inputs, *further)))

    def _permuted(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() != len(self.layout):
            return value
        # As the caller's data would be: models look at it by view.
        return value.permute(self._order).contiguous()


def tokens(
    grid: tuple[int, ...] | None = None, extra: int = 1
) -> Callable[[Tensor], Tensor]:
    """Returns a transform of tokens `(N, extra + positions, K)` into `(N, K, *grid)`.

    Args:
        grid (tuple[int, ...], optional): Number of positions in each direction, such as
            `(14, 14)`, or `(8, 14, 14)` for tokens of a video. Default: None, that is a
            square
        extra (int, optional): Number of tokens in front that have no position in the
            grid: class tokens, distillation tokens, registers. Default: 1

    Returns:
        *Callable* that turns tokens into maps `(N, K, *grid)`, to be passed as
        `reshape_transform`.

    Raises:
        ValueError: If `extra` is negative or `grid` has no position; from
            the transform itself, if the tokens do not fill the grid.

    Examples::

        >>> import torch
        >>> tokens((2, 3), extra=0)(torch.rand(1, 6, 8)).shape
        torch.Size([1, 8, 2, 3])
    """
    if extra < 0:
        raise ValueError(
            f"extra must be at least 0, got {extra}. It counts the tokens in front "
            "that have no position in the grid."
        )
    if grid is not None and (not grid or min(grid) < 1):
        raise ValueError(
            f"grid must have at least one position, got {grid}. Pass the number of "
            "patches in each direction."
        )

    # No closure, so that it can be pickled.
    return partial(_tokens_as_maps, grid=grid, extra=extra)


def _tokens_as_maps(
    output: Tensor, *, grid: tuple[int, ...] | None, extra: int
) -> Tensor:
    if output.dim() != 3:
        raise ValueError(
            "layer must give tokens (N, tokens, K) for this reshape_transform, got "
            f"the shape {tuple(output.shape)}. Choose a layer of the encoder."
        )
    count = output.shape[1] - extra
    size = grid or (isqrt(max(count, 0)),) * 2
    if prod(size) != count or count < 1:
        raise ValueError(
            f"grid must have one position for each token, got {size} for "
            f"{output.shape[1]} tokens, {extra} of them without a position. Pass "
            "reshape_transforms.tokens(grid, extra) with the numbers of the model."
        )
    maps: Tensor = output[:, extra:].transpose(1, 2).unflatten(2, size)
    return maps


def vit(output: Tensor) -> Tensor:
    """Returns the patches of torchvision's ViT as maps, without the class token.

    In a ViT only the class token reaches the head, so the gradients at all other
    tokens *after* the last attention are zero. `encoder.layers.encoder_layer_11.ln_1`,
    the input of the last attention, is the layer to explain.

    Args:
        output (Tensor): Output of a layer, `(N, 1 + h * h, K)`: the class token and the
            patches of a square.

    Returns:
        *Tensor* `(N, K, h, h)`.

    Raises:
        ValueError: If there are not as many patches as a square has.

    Examples::

        >>> import torch
        >>> vit(torch.rand(2, 1 + 14 * 14, 8)).shape
        torch.Size([2, 8, 14, 14])
    """
    return tokens()(output)


def swin(output: Tensor) -> Tensor:
    """Returns maps with the channels last as maps with the channels first.

    torchvision's Swin works on `(N, h, w, K)` in all of `features`; its modules `norm`
    (channels last) and `permute` (channels first, so without a transform) follow.

    Args:
        output (Tensor): Output of a layer, `(N, *spatial, K)`, the channels last.

    Returns:
        *Tensor* `(N, K, *spatial)`.

    Raises:
        ValueError: If it has no spatial dimension.

    Examples::

        >>> import torch
        >>> swin(torch.rand(2, 7, 5, 8)).shape
        torch.Size([2, 8, 7, 5])
    """
    if output.dim() < 3:
        raise ValueError(
            "layer must give maps (N, *spatial, K) for this reshape_transform, got the "
            f"shape {tuple(output.shape)}. Choose a layer of the features."
        )
    return output.movedim(-1, 1)


def maxvit_windows(output: Tensor) -> Tensor:
    """Returns what the window attention of torchvision's MaxViT works on as maps.

    The blocks of a MaxViT, and the attention layers as a whole, give maps without a
    transform. This one is for the modules inside of a `window_attention`, such as
    `blocks.3.layers.1.layers.window_attention.attn_layer.0`.

    Args:
        output (Tensor): Output of a layer, `(N, windows, positions, K)`: the windows,
            and the positions in each, fill a square.

    Returns:
        *Tensor* `(N, K, h, h)`.

    Raises:
        ValueError: If windows or positions do not fill a square.

    Examples::

        >>> import torch
        >>> maxvit_windows(torch.rand(1, 4, 49, 8)).shape
        torch.Size([1, 8, 14, 14])
    """
    return _tiles(output)


def maxvit_grid(output: Tensor) -> Tensor:
    """Returns what the grid attention of torchvision's MaxViT works on as maps.

    The blocks of a MaxViT, and the attention layers as a whole, give maps without a
    transform. This one is for the modules inside of a `grid_attention`, whose tokens
    are spread over the whole map.

    Args:
        output (Tensor): Output of a layer, `(N, positions, tiles, K)`: the positions in
            a tile, and the tiles, fill a square.

    Returns:
        *Tensor* `(N, K, h, h)`.

    Raises:
        ValueError: If positions or tiles do not fill a square.

    Examples::

        >>> import torch
        >>> maxvit_grid(torch.rand(1, 4, 49, 8)).shape
        torch.Size([1, 8, 14, 14])
    """
    if output.dim() == 4:
        output = output.transpose(1, 2)
    return _tiles(output)


def _tiles(output: Tensor) -> Tensor:
    """Puts tiles `(N, tiles, positions, K)` together to `(N, K, h, h)`."""
    outer, inner = (isqrt(size) for size in (*output.shape[1:3], 0, 0)[:2])
    if output.dim() != 4 or (outer**2, inner**2) != tuple(output.shape[1:3]):
        raise ValueError(
            "layer must give tokens in square windows (N, windows, positions, K) for "
            f"this reshape_transform, got the shape {tuple(output.shape)}. Choose a "
            "module inside of an attention layer of MaxViT."
        )
    tiles: Tensor = output.unflatten(2, (inner, inner)).unflatten(1, (outer, outer))
    maps = tiles.permute(0, 5, 1, 3, 2, 4)  # (N, K, outer, inner, outer, inner)
    return maps.flatten(4, 5).flatten(2, 3)
