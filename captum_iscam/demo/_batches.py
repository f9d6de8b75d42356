"""Batches of scenes for training: augmented pictures and what to answer to them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from captum_iscam.demo.network import CELLS, preprocess
from captum_iscam.demo.scenes import CLASSES, SIZE, draw_scene

# Above this strength a pixel that is blended towards grey still counts as visible.
_VISIBLE = 0.35
_EMPTY_SHARE = 0.08
# Share of a batch that is faded, and the largest standard deviation of noise.
_FADED = 0.6
_MAX_STDEV = 0.5


@dataclass(frozen=True)
class Pool:
    """Scenes to train on.

    Attributes:
        images (Tensor): Pictures of shape (P, 3, H, W), uint8 to save memory.
        coverage (Tensor): Share of each cell that is the class, (P, classes, h, w).
    """

    images: torch.Tensor
    coverage: torch.Tensor


def draw_pool(seed: int, size: int) -> Pool:
    """Draw scenes to train on; a few show background and clutter alone."""
    images = torch.zeros(size, 3, SIZE, SIZE, dtype=torch.uint8)
    coverage = torch.zeros(size, len(CLASSES), CELLS, CELLS)
    for i in range(size):
        rng = np.random.default_rng([seed, 1, i])
        scene = draw_scene(rng, n_objects=0 if rng.random() < _EMPTY_SHARE else None)
        images[i] = (scene.image * 255).round().byte()
        if scene.labels:
            cells = F.adaptive_avg_pool2d(scene.masks.float(), CELLS)
            coverage[i, torch.tensor(scene.labels)] = cells
    return Pool(images, coverage)


def _strengths(
    rng: np.random.Generator, count: int, size: int, faded: float
) -> torch.Tensor:
    """How much of each pixel remains, (count, 1, H, W) in [0, 1].

    The share `faded` of the pictures gets what a map of the Score-CAM family does to
    them: a smooth random mask, blunt or sharp, at a random strength.
    """
    masks = torch.ones(count, 1, size, size)
    for i in range(count):
        if rng.random() >= faded:
            continue
        cells = int(rng.integers(2, 8))
        grid = torch.from_numpy(rng.random((1, 1, cells, cells), dtype=np.float32))
        mask = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        gain, threshold = rng.uniform(1.0, 8.0), rng.uniform(0.35, 0.65)
        mask = ((mask - threshold) * gain + 0.5).clamp(0.0, 1.0)
        # Weak strengths must be seen too: an integral starts at the grey picture.
        masks[i] = mask[0] * rng.uniform(0.15, 1.0)
    return masks


def soft_targets(
    coverage: torch.Tensor, strengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What to answer to faded pictures: equal shares for the classes still visible.

    Where nothing is visible the answer is the uniform distribution, so that grey and
    background speak for no class.

    Args:
        coverage (Tensor): Share of each cell that is the class, (N, classes, h, w).
        strengths (Tensor): What remains of each pixel, (N, 1, H, W) in [0, 1].

    Returns:
        *tuple* of two *Tensors*: Distribution over the classes for each picture,
        (N, classes), and for each cell, (N, classes, h, w).
    """
    # Relative to the strongest part: the overall strength only dims the picture.
    peak = strengths.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
    kept = (strengths / peak > _VISIBLE).float()
    kept = F.adaptive_avg_pool2d(kept, coverage.shape[-1])
    whole = coverage.sum((2, 3), keepdim=True).clamp_min(1e-6)
    seen = (coverage * kept).sum((2, 3), keepdim=True) / whole
    # Less than 30 % of an object is nothing, more than 60 % all of it.
    share = ((seen - 0.3) / 0.3).clamp(0.0, 1.0)

    def completed(shares: torch.Tensor) -> torch.Tensor:
        rest = (1.0 - shares.sum(1, keepdim=True)).clamp_min(0.0)
        shares = shares + rest / len(CLASSES)
        return shares / shares.sum(1, keepdim=True)

    return completed(share.flatten(1)), completed(share * coverage)


def draw_batch(
    pool: Pool, rng: np.random.Generator, size: int, hardness: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Augmented inputs (N, 3, H, W) with their two soft targets.

    `hardness` from 0 to 1 is how much of the fading and the noise is applied.
    """
    rows = torch.from_numpy(rng.choice(len(pool.images), size, replace=False))
    images, coverage = pool.images[rows].float() / 255, pool.coverage[rows]
    # One symmetry and one order of the colours per batch is cheap and random enough.
    if rng.random() < 0.5:
        images, coverage = images.flip(-1), coverage.flip(-1)
    turns = int(rng.integers(4))
    images = images.rot90(turns, (-2, -1))
    coverage = coverage.rot90(turns, (-2, -1))
    inputs = preprocess(images[:, torch.from_numpy(rng.permutation(3))])
    strengths = _strengths(rng, size, inputs.shape[-1], _FADED * hardness)
    inputs = inputs * strengths
    # Noise on a quarter of the batch, which is in random order.
    noisy = inputs[: size // 4]
    noise = rng.standard_normal(tuple(noisy.shape), dtype=np.float32)
    stdevs = rng.uniform(0.0, _MAX_STDEV * hardness, (len(noisy), 1, 1, 1)).astype(
        np.float32
    )
    noisy += torch.from_numpy(noise * stdevs)
    return (
        inputs.contiguous(memory_format=torch.channels_last),
        *soft_targets(coverage, strengths),
    )
