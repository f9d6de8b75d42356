"""The equations of the design, one example, one channel and one step at a time."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import roots_jacobi

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def gauss_legendre(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return [
        ((1 + node) / 2, weight / 2)
        for node, weight in zip(nodes, weights, strict=True)
    ]


def gauss_radau(n):
    """With the fixed point 0, without its weight: Jacobi's points for `1 + x`."""
    nodes, weights = roots_jacobi(n, 0, 1)
    return [
        ((1 + node) / 2, weight / (1 + node) / 2)
        for node, weight in zip(nodes, weights, strict=True)
    ]


RULES = {
    "gaussradau": gauss_radau,
    "gausslegendre": gauss_legendre,
    "riemann_left": lambda n: [(i / n, 1 / n) for i in range(n)],
    "riemann_right": lambda n: [((i + 1) / n, 1 / n) for i in range(n)],
    "riemann_middle": lambda n: [((i + 0.5) / n, 1 / n) for i in range(n)],
    "riemann_trapezoid": lambda n: [
        (i / (n - 1), (0.5 if i in (0, n - 1) else 1) / (n - 1)) for i in range(n)
    ],
    "accumulated": lambda n: [(i * (i + 1) / (2 * n), 1 / n) for i in range(1, n + 1)],
    "recurrence": lambda n: [(i * (i - 1) / (2 * n), 1 / n) for i in range(1, n + 1)],
}


def confidence(output, target, score):
    """`s(z)` of an output with a single row."""
    row = output[0]
    if score == "softmax":
        peak = float(row.max())
        exponentials = [math.exp(float(value) - peak) for value in row]
        return exponentials[target] / sum(exponentials)
    if score == "sigmoid":
        return 1 / (1 + math.exp(min(-float(row[target]), 700.0)))
    if score == "identity":
        return float(row[target])
    return float(score(output)[0, target])


def scaled_mask(channel, size):
    """`M_k`: upsampled first, scaled to [0, 1] afterwards."""
    wide = F.interpolate(
        channel[None, None], size=size, mode=MODES[len(size)], align_corners=False
    )[0, 0]
    low, high = float(wide.min()), float(wide.max())
    if float(channel.max()) == float(channel.min()) or low == high:
        return torch.zeros_like(wide)
    return (wide - low) / (high - low)


def authors_stdev(shown):
    """The rule in the SS-CAM authors' code."""
    spread = float(shown.max()) - float(shown.min())
    return (2 / spread) ** 2 if spread else 0.0


def drawn_fields(x, n_samples, channels, seed):
    """The noise of SS-CAM as the documentation tells it: pairs `e`, `-e`."""
    generator = torch.Generator().manual_seed(seed)
    fields = []
    for _ in range((n_samples + 1) // 2):
        shape = (1, channels, *x.shape[2:])
        e = torch.randn(shape, generator=generator)[0].to(x.dtype)
        fields += [e, -e]
    return fields[:n_samples]


def channel_weight(model, x, b, mask, target, score, steps):
    """`a_k` for steps `(t, w, noise)`; noise is a function of mask and shown input."""
    at_baseline = confidence(model(b[None]), target, score)
    total = 0.0
    for strength, weight, noise in steps:
        z = b + strength * mask * (x - b)
        if noise is not None:
            z = z + noise(mask, z)
        total += weight * (confidence(model(z[None]), target, score) - at_baseline)
    return total


@torch.no_grad()
def score_map(
    model,
    layer,
    x,
    target,
    steps=((1.0, 1.0, None),),
    score="softmax",
    baseline=0.0,
    channel_softmax=False,
    relu=True,
):
    """`L` of one example `x`, `(C, *spatial)`; returns `(*layer spatial)`."""
    b = torch.as_tensor(baseline, dtype=x.dtype).expand_as(x)
    activations = layer(x[None])[0]
    weights = []
    for channel in activations:
        mask = scaled_mask(channel, tuple(x.shape[1:]))
        constant = float(channel.max()) == float(channel.min())
        weights.append(
            0.0 if constant else channel_weight(model, x, b, mask, target, score, steps)
        )
    if channel_softmax:
        exponentials = [math.exp(weight - max(weights)) for weight in weights]
        weights = [value / sum(exponentials) for value in exponentials]
    total = torch.zeros_like(activations[0])
    for weight, channel in zip(weights, activations, strict=True):
        total = total + weight * channel
    return total.clamp(min=0) if relu else total


def integrated_grad_cam(
    model, layer_then_rest, x, target, points, baseline=0.0, relu=True
):
    """Integrated Grad-CAM of one example; the model is split at the layer."""
    to_layer, rest = layer_then_rest
    b = torch.as_tensor(baseline, dtype=x.dtype).expand_as(x)
    origin = to_layer(b[None])[0].detach()
    total = torch.zeros_like(origin[0])
    for t, w in points:
        activations = to_layer((b + t * (x - b))[None]).detach().requires_grad_()
        rest(activations)[0, target].backward()
        step = torch.zeros_like(total)
        for k in range(len(origin)):
            pooled = float(activations.grad[0, k].mean())
            step = step + pooled * (activations.detach()[0, k] - origin[k])
        total = total + w * (step.clamp(min=0) if relu else step)
    return total
