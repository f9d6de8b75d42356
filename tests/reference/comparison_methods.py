"""The methods IS-CAM is compared with, slowly, straight from their equations."""

import math

import torch
from reference.score_methods import confidence


def gradient_at(rest, activations, target):
    """`g`: the gradient of one score at activations `(K, *spatial)`."""
    leaf = activations.detach()[None].requires_grad_()
    rest(leaf)[0, target].backward()
    return leaf.grad[0]


def grad_cam_plus_plus(activations, powers, denominator="activations", relu=True):
    """Equations 5, 19 and 20, place by place.

    `powers` are the gradient, its square and its cube, or their means over noise.
    """
    first, second, third = powers
    total = torch.zeros_like(activations[0])
    for k in range(len(activations)):
        a, d1, d2, d3 = (
            t[k].reshape(-1).tolist() for t in (activations, first, second, third)
        )
        weight = 0.0
        for i in range(len(a)):
            if denominator == "activations":
                below = 2 * d2[i] + sum(a) * d3[i]
            else:
                below = 2 * d2[i] + sum(u * v for u, v in zip(a, d3, strict=True))
            alpha = d2[i] / below if below else 0.0
            weight += alpha * max(d1[i], 0.0)
        total = total + weight * activations[k]
    return total.clamp(min=0) if relu else total


def layer_cam(activations, gradient, relu=True):
    """`sum_k ReLU(g_k) A_k`, place by place."""
    return _by_place(activations, gradient, lambda a, g: max(g, 0.0) * a, relu)


def hires_cam(activations, gradient, relu=True):
    """`sum_k g_k A_k`, place by place."""
    return _by_place(activations, gradient, lambda a, g: g * a, relu)


def _by_place(activations, gradient, product, relu):
    size = activations.shape[1:]
    a, g = (t.reshape(len(t), -1).tolist() for t in (activations, gradient))
    total = [
        sum(product(a[k][i], g[k][i]) for k in range(len(a))) for i in range(len(a[0]))
    ]
    total = torch.tensor(total, dtype=torch.float64).reshape(size)
    return total.clamp(min=0) if relu else total


def xgrad_cam(activations, gradient, relu=True):
    """`sum_k a_k A_k`, where `a_k` is the sum of `A_k,ij / sum(A_k) g_k,ij`."""
    total = torch.zeros_like(activations[0])
    for k in range(len(activations)):
        a, g = (t[k].reshape(-1).tolist() for t in (activations, gradient))
        below = sum(a)
        weight = sum(u / below * v for u, v in zip(a, g, strict=True)) if below else 0
        total = total + weight * activations[k]
    return total.clamp(min=0) if relu else total


ONE_PASS = {"LayerCAM": layer_cam, "HiResCAM": hires_cam, "XGrad-CAM": xgrad_cam}


def pairs_of_noise(shape, n_samples, seed):
    """The noise of Smooth Grad-CAM++ as the documentation tells it: `e`, `-e`."""
    source = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (math.ceil(n_samples / 2),), generator=source)
    fields = []
    for number in seeds.tolist():
        generator = torch.Generator().manual_seed(number)
        e = torch.randn((1, *shape), generator=generator)[0].double()
        fields += [e, -e]
    return fields[:n_samples]


def rise_masks(size, n_masks, grid, keep_probability, seed):
    """RISE's masks, `(n_masks, *size)`: cells, linear upsampling, random crop."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand((n_masks, *grid), generator=generator) < keep_probability
    shifts = torch.rand((n_masks, len(grid)), generator=generator).tolist()
    masks = torch.zeros((n_masks, *size), dtype=torch.float64)
    for n in range(n_masks):
        mask = cells[n].double()
        for axis, (side, count) in enumerate(zip(size, grid, strict=True)):
            pixels = math.ceil(side / count)
            start = int(shifts[n][axis] * pixels)
            rows = [
                _between(mask, axis, place, (count + 1) * pixels)
                for place in range(start, start + side)
            ]
            mask = torch.stack(rows, axis)
        masks[n] = mask
    return masks


def _between(mask, axis, place, size):
    """Linear interpolation at the centre of pixel `place` of `size`, cells mirrored."""
    cells = mask.shape[axis]
    at = (place + 0.5) * cells / size - 0.5
    low = math.floor(at)
    share = at - low

    def cell(index):
        # The mirror is the centre of the outermost cell, which has no twin.
        index = abs(index) if index < cells else 2 * (cells - 1) - index
        return mask.select(axis, min(max(0, index), cells - 1))

    return (1 - share) * cell(low) + share * cell(low + 1)


@torch.no_grad()
def rise(model, x, target, masks, keep_probability, score="softmax", baseline=0.0):
    """`sum_i s_i M_i / (n p)` of one example `(C, *spatial)`."""
    b = torch.as_tensor(baseline, dtype=x.dtype).expand_as(x)
    total = torch.zeros_like(masks[0])
    for mask in masks:
        z = b + mask * (x - b)
        total = total + confidence(model(z[None]), target, score) * mask
    return total / (len(masks) * keep_probability)
