"""The slow float64 references, applied to a situation that fuzzing drew."""

import copy

import torch
from promises.fuzzing.method_options import (
    GRADIENT_METHODS,
    LAYER_MASKS,
    OF_ONE_PASS,
    SEED,
)
from reference.comparison_methods import (
    ONE_PASS,
    grad_cam_plus_plus,
    gradient_at,
    pairs_of_noise,
    rise,
    rise_masks,
)
from reference.layer_masks import ablation_cam, recipro_cam
from reference.score_methods import (
    RULES,
    authors_stdev,
    drawn_fields,
    integrated_grad_cam,
    score_map,
)

TRANSFORMS = {
    "softmax": lambda out: torch.softmax(out, 1),
    "sigmoid": torch.sigmoid,
    "identity": lambda out: out,
}
STEPS = {
    "gausslegendre": 5,
    "gaussradau": 4,
    "riemann_middle": 5,
    "riemann_trapezoid": 8,
}


class Row:
    """One example of a situation, in double precision, its output a single row."""

    def __init__(self, situation, net, number):
        s = situation
        self.net = net
        self.depth = s.depth
        self.score = s.score
        self.x = s.image[number].detach().double()
        self.further = [
            None if t is None else t[number : number + 1].double()
            for t in (s.vector, s.scale)
        ]
        row = s.rows[number] if s.rows else (0,)
        self.target, self.column = row[0], row[1:]

    def layer(self, x):
        return self.net.after(self.depth, x.clone())

    def rest(self, maps):
        """The output `(1, classes)` for the maps of the layer."""
        out = self.net.finish(maps.clone(), self.depth, *self.further)
        out = out.reshape(1, -1) if out.dim() < 2 else out
        return out[:, :, self.column[0]] if self.column else out

    def scored(self, maps):
        transform = TRANSFORMS.get(self.score, self.score)
        return transform(self.rest(maps))

    def model(self, x):
        return self.rest(self.layer(x))

    def baseline(self, given, number):
        """The baseline of this example, `(C, ...)` or a number."""
        value = given[0] if isinstance(given, tuple) else given
        if isinstance(value, torch.Tensor):
            return value[number if len(value) > 1 else 0].double()
        return value or 0.0


def points_of(own):
    if "n_steps" not in own and "method" not in own:
        return RULES["gaussradau"](3)
    method = own.get("method", "gausslegendre")
    n_steps = own.get("n_steps", STEPS.get(method, 10))
    if n_steps == 1 and method.startswith("riemann"):
        return [({"riemann_right": 1.0}.get(method, 0.5), 1.0)]
    return RULES[method](n_steps)


def noisy_steps(row, own, baseline):
    count, stdevs = own["n_samples"], own.get("stdevs")
    stdevs = stdevs[0] if isinstance(stdevs, tuple) else stdevs
    on_mask = own.get("noise") == "mask"
    fields = drawn_fields(row.x[None], count, 1 if on_mask else len(row.x), SEED)

    def noise(e):
        if on_mask:
            return lambda mask, shown: stdevs * e * (row.x - baseline)
        return lambda mask, shown: (
            e * (authors_stdev(shown) if stdevs is None else stdevs)
        )

    return [(1.0, 1 / count, noise(e)) for e in fields]


def of_scores(name, row, own, number):
    baseline = row.baseline(own.get("baselines"), number)
    steps = [(1.0, 1.0, None)]
    if name == "IS-CAM":
        steps = [(t, w, None) for t, w in points_of(own)]
    if name == "SS-CAM":
        steps = noisy_steps(row, own, baseline)
    return score_map(
        row.model,
        row.layer,
        row.x,
        row.target,
        steps,
        score=row.score,
        baseline=baseline,
        channel_softmax=own.get("channel_softmax", False),
        relu=own.get("relu_attributions", True),
    )


def of_gradients(name, row, own, number):
    relu = own.get("relu_attributions", True)
    if name == "Integrated Grad-CAM":
        baseline = row.baseline(own.get("baselines"), number)
        split = (row.layer, row.scored)
        points = points_of({"method": "gausslegendre", **own})
        return integrated_grad_cam(
            row.model, split, row.x, row.target, points, baseline, relu
        )
    shown = [row.x]
    if name == "Smooth Grad-CAM++":
        fields = pairs_of_noise(row.x.shape, own["n_samples"], SEED)
        shown = [row.x + own.get("stdevs", 0.3) * e for e in fields]
    gradients = torch.stack(
        [gradient_at(row.scored, row.layer(z[None])[0], row.target) for z in shown]
    )
    powers = [(gradients**power).mean(0) for power in (1, 2, 3)]
    maps = row.layer(row.x[None])[0].detach()
    if name in OF_ONE_PASS:
        return ONE_PASS[name](maps, gradients[0], relu)
    return grad_cam_plus_plus(maps, powers, own.get("denominator", "activations"), relu)


@torch.no_grad()
def of_masked_outputs(name, row, own):
    slow = {"Ablation-CAM": ablation_cam, "Recipro-CAM": recipro_cam}[name]
    own["relu"] = own.pop("relu_attributions", True)
    return slow(row.scored, row.layer(row.x[None])[0], row.target, **own)


def of_random_masks(row, own, number):
    grid, p = own.get("grid", 7), own.get("keep_probability", 0.5)
    size = tuple(row.x.shape[1:])
    grid = grid if isinstance(grid, tuple) else (grid,) * len(size)
    masks = rise_masks(size, own["n_masks"], grid, p, SEED)
    baseline = row.baseline(own.get("baselines"), number)
    return rise(row.model, row.x, row.target, masks, p, row.score, baseline)


def slow_map(name, situation, own):
    """Returns the maps `(N, 1, *spatial)` of the reference."""
    maps, net = [], copy.deepcopy(situation.net).double()
    for number in range(len(situation.image)):
        row = Row(situation, net, number)
        if name == "RISE":
            maps.append(of_random_masks(row, own, number))
        elif name in LAYER_MASKS:
            maps.append(of_masked_outputs(name, row, dict(own)))
        elif name in GRADIENT_METHODS:
            maps.append(of_gradients(name, row, own, number))
        else:
            maps.append(of_scores(name, row, own, number))
    return torch.stack(maps).unsqueeze(1)


def comparable(name, situation, own):
    """Whether there is a reference for just this.

    Predicted weights have none here, nor has the noise or the path of a second input;
    and in less than double precision the divisions of Grad-CAM++, XGrad-CAM and
    Ablation-CAM are as good as their denominators, in any precision where Recipro-CAM
    scales its map.
    """
    exact = own.get("screening", 1.0) == 1.0
    if name == "Poly-CAM":  # of one layer it is Score-CAM
        one = not isinstance(situation.layer, list)
        exact = exact and one and own.get("variant", "insertion") == "insertion"
    if name == "Recipro-CAM":
        exact = not own.get("normalize", True)
    if name in GRADIENT_METHODS:
        exact = exact and situation.vector is None
    precise = situation.dtype == torch.float64
    if not precise:
        divides = "++" in name or name == "XGrad-CAM"
        # A probability is as precise as it is small, other than an output near zero.
        if name == "Ablation-CAM":
            divides = "fill" in own or situation.score not in ("softmax", "sigmoid")
        precise = situation.dtype == torch.float32 and not divides
    return exact and precise
