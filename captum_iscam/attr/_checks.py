"""What the layer's output and the inputs must be for masks to be laid on."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.inputs import Batch
from captum_iscam.reshape_transforms import READY_MADE


def check_activations(activations: Tensor, batch: Batch) -> Tensor:
    """Returns the layer's maps on the inputs' device, in at least float32."""
    shape = tuple(activations.shape)
    if activations.dim() < 3 or activations.shape[2:].numel() < 2:
        raise ValueError(
            f"layer must have a spatial output (N, K, ...), got the shape {shape}. "
            "Choose a convolutional layer further up, or pass reshape_transform."
        )
    if shape[0] != batch.num_examples:
        raise ValueError(
            "layer must keep one row per example, got an output of shape "
            f"{shape} for {batch.num_examples} examples. "
            "Choose a layer that keeps them apart, or pass reshape_transform."
        )
    same_rank = [x for x in batch.inputs if x.dim() == activations.dim()]
    if not same_rank or activations.dim() > 5:
        shapes = [tuple(x.shape) for x in batch.inputs]
        raise ValueError(
            "layer must have as many spatial dimensions as an input, one to three, "
            f"got an output of shape {shape} for inputs of shape {shapes}. "
            f"{READY_MADE}"
        )
    for tensor in (*same_rank, activations):
        if not tensor.is_floating_point():
            raise TypeError(
                "inputs and the layer's output must be floating point, got "
                f"{tensor.dtype}. Convert the inputs with inputs.float()."
            )
    if not bool(torch.isfinite(activations).all().item()):
        raise RuntimeError(
            "forward_func must give finite activations, got NaN or infinity from "
            "the layer in the pass of the unmasked inputs. Check the inputs, and "
            "use float32 or bfloat16 where float16 overflows."
        )
    return at_least_single(activations).to(batch.device)


def check_integers(batch: Batch) -> None:
    """Raises for integer inputs that a mask would be laid on."""
    ranks = {x.dim() for x in batch.inputs if x.is_floating_point() and x.dim() > 2}
    for x in batch.inputs:
        masked = not ranks or x.dim() in ranks
        if masked and not x.is_floating_point():
            raise TypeError(
                f"inputs must be floating point to be masked, got {x.dtype}. Convert "
                "them with inputs.float(), or pass them as additional_forward_args."
            )
