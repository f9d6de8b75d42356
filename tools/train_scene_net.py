"""The recipe of the bundled network: ``python tools/train_scene_net.py``."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from captum_iscam.demo.network import CELLS, SceneNet, preprocess, save_weights
from captum_iscam.demo.scenes import CLASSES, SIZE, Scene, draw_scene

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


STEPS = 2400
POOL = 6000
BATCH = 32
_LEARNING_RATE = 4e-3
# The loss of single cells teaches where each class is, which the mean over all cells
# tells only slowly. Its weight falls linearly to the last one: it is content with small
# margins, in which a small object would drown when the mean is taken.
_CELL_WEIGHT_FALL = 5.0
_LAST_CELL_WEIGHT = 0.3
# Fading and noise grow over this share of the steps: whole pictures come first.
_EASY_SHARE = 0.4


def scene_loss(
    network: SceneNet,
    cell_weight: float,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    cells: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy of the picture's logits and of the same head on every cell.

    Args:
        network (SceneNet): The network.
        cell_weight (float): Weight of the cells' part.
        inputs (Tensor): Normalised pictures, (N, 3, H, W).
        targets (Tensor): Distribution over the classes for each picture, (N, classes).
        cells (Tensor): The same for each cell, (N, classes, h, w).

    Returns:
        *Tensor*: The loss, one number.
    """
    maps = network.features(inputs)
    head = network.head
    cell_logits = F.conv2d(maps, head.weight[:, :, None, None], head.bias)
    cell_loss = F.cross_entropy(cell_logits, cells)
    # The head is linear: the mean of the cells' logits is the network's output.
    return F.cross_entropy(cell_logits.mean((2, 3)), targets) + cell_weight * cell_loss


def train(
    seed: int = 0,
    steps: int = STEPS,
    pool_size: int = POOL,
    report: Callable[[int, float], None] | None = None,
) -> SceneNet:
    """Train the network from scratch.

    Softmax cross-entropy against equal shares for the classes present makes the network
    answer to every object. The same loss on each cell of `features`, against the true
    masks, makes it answer where the object is: the right explanation is trained, not
    hoped for. Pictures faded to grey make it answer sensibly to masked inputs.

    The same arguments give the same weights on one machine with one number of threads.

    Args:
        seed (int, optional): Seed of weights, scenes and augmentation. Default: 0.
        steps (int, optional): Optimiser steps of 32 pictures. Default: 2400.
        pool_size (int, optional): Different scenes drawn before training, at least 32.
            Default: 6000.
        report (callable, optional): Called with (step, loss) after each step.

    Returns:
        *SceneNet*: The network in evaluation mode.

    Raises:
        ValueError: If `steps` is below 1 or `pool_size` below one batch.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}. Leave it at {STEPS}.")
    if pool_size < BATCH:
        raise ValueError(
            f"pool_size must be at least {BATCH}, got {pool_size}. Leave it at {POOL}."
        )
    pool = draw_pool(seed, pool_size)
    rng = np.random.default_rng([seed, 2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SceneNet().train()
    network.to(memory_format=torch.channels_last)  # halves the time on a CPU
    optimiser = torch.optim.AdamW(
        network.parameters(), _LEARNING_RATE, weight_decay=0.02
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        _LEARNING_RATE,
        total_steps=max(steps, 10),  # fewer leave no step for the rise
        pct_start=0.2,
    )
    for step in range(steps):
        hardness = min(1.0, step / (_EASY_SHARE * steps))
        cell_weight = _CELL_WEIGHT_FALL * (1.0 - step / steps) + _LAST_CELL_WEIGHT
        loss = scene_loss(network, cell_weight, *draw_batch(pool, rng, BATCH, hardness))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if report:
            report(step, loss.item())
    return network.eval()


@dataclass(frozen=True)
class Accuracy:
    """Shares of scenes in [0, 1], higher is better.

    Attributes:
        single (float): Scenes of one object whose class is the most probable.
        several (float): Scenes of k > 1 objects whose classes are the k most probable.
        top1 (float): All scenes: the most probable class is present.
    """

    single: float
    several: float
    top1: float


@torch.no_grad()
def accuracy(network: torch.nn.Module, scenes: Sequence[Scene]) -> Accuracy:
    """How often the network names the classes; each scene needs an object."""
    order = torch.cat(
        [
            network(preprocess(torch.stack([s.image for s in scenes[i : i + BATCH]])))
            for i in range(0, len(scenes), BATCH)
        ]
    ).argsort(1, descending=True)
    single: list[bool] = []
    several: list[bool] = []
    top1: list[bool] = []
    for scene, row in zip(scenes, order.tolist(), strict=True):
        right = set(row[: len(scene.labels)]) == set(scene.labels)
        (single if len(scene.labels) == 1 else several).append(right)
        top1.append(row[0] in scene.labels)
    return Accuracy(
        *(sum(hits) / max(len(hits), 1) for hits in (single, several, top1))
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the validation accuracy and write the weights."""
    parser = argparse.ArgumentParser(description="Retrain the bundled network.")
    parser.add_argument("--out", default="scene_net.pt", help="weights file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pool", type=int, default=POOL, help="scenes to train on")
    parser.add_argument("--validate", type=int, default=1000, help="scenes to test on")
    options = parser.parse_args(arguments)
    start = time.perf_counter(), time.process_time()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == options.steps - 1:
            seconds = time.perf_counter() - start[0]
            sys.stdout.write(f"step {step:5d}  loss {loss:.3f}  {seconds:5.0f} s\n")
            sys.stdout.flush()

    network = train(options.seed, options.steps, options.pool, report)
    save_weights(network, options.out)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    # Seeds of the training scenes have a third part: these are never among them.
    scenes = [
        draw_scene(np.random.default_rng([options.seed, 3, i]))
        for i in range(options.validate)
    ]
    result = accuracy(network, scenes)
    sys.stdout.write(
        f"validation on {len(scenes)} new scenes: one object {result.single:.1%}, "
        f"several objects {result.several:.1%}, top-1 present {result.top1:.1%}\n"
        f"{wall:.0f} s ({cpu:.0f} s of processor time), weights in {options.out}\n"
    )


if __name__ == "__main__":
    main()
