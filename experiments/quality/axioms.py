"""Which axioms of attribution hold for which method, and by how much others fail?

    python -m experiments.quality.axioms VALUES.pt --photographs 5

asks every method the axioms of Sundararajan, Taly, Yan 2017 (arXiv 1703.01365) on the
bundled scenes and, where `CAPTUM_ISCAM_REALDATA` has ResNet-18's weights, at its
`layer3` on photographs of 96 x 96 pixels: what follows `layer3` is not linear, unlike
the end of the bundled network. A network is a front, whose output is explained, and a
head. An axiom changes one of them, or the input, and says what may not change in the
map. Values are kept in VALUES.pt, where a run that was stopped continues. Writes
`axioms.md`, with medians over images, and `axioms.csv.gz`.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_iscam._utils.interpolate import upsample
from captum_iscam.attr.integrated_gradients import CheckedIntegratedGradients
from captum_iscam.attr.occlusion import WindowOcclusion
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.demo import load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS, Method, Options
from experiments._common import save_rows
from experiments.quality.invariant_form import BothForms
from experiments.quality.photographs import FOLDER, as_input, network, photographs

Change = Callable[[Tensor], Tensor]
OUT = Path(__file__).parents[1] / "results" / "axioms"
HOLDS = 1e-4
OPTIONS = Options(n_samples=2, n_masks=200)
SIZE = 96
NORMALISED = Method(
    "Score-CAM, normalised channels",
    BothForms,
    ("score",),
    finish=lambda maps: maps.chunk(2, 1)[1],
)
ASKED = {
    **{name: method for name, method in METHODS.items() if not method.control},
    "score-cam normalised": NORMALISED,
}
"""Every method but the controls, and the form that `invariant_form` judges."""
PER_CHANNEL = (CheckedIntegratedGradients, WindowOcclusion)
"""Their attributions have the channels of the input."""


class Row(NamedTuple):
    """How far a map is from an axiom; None where it cannot be asked, or is zero."""

    network: str
    image: str
    method: str
    axiom: str
    violation: float | None


@dataclass(frozen=True)
class Case:
    """A network of two parts, what is explained, and another class."""

    network: str
    image: str
    front: nn.Module
    head: nn.Module
    inputs: Tensor
    target: int
    other: int


class Explainer:
    """A method at work on a case, with maps that several axioms need made once."""

    def __init__(self, method: Method, case: Case) -> None:
        self.method, self.case = method, case

    def maps(
        self,
        front: nn.Module | None = None,
        head: nn.Module | None = None,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Returns the map by the method's defaults, of a network that may differ."""
        case = self.case
        model = nn.Sequential(front or case.front, head or case.head).eval()
        inputs = case.inputs if inputs is None else inputs
        return self.method.attribute(model, model[0], inputs, case.target, OPTIONS)

    def raw(self, head: nn.Module, targets: list[int]) -> Tensor:
        """Returns maps of the raw score, before any ReLU or scaling."""
        method, model = raw_form(self.method), nn.Sequential(self.case.front, head)
        options = replace(OPTIONS, score="identity")
        inputs = self.case.inputs
        return method.attribute(model.eval(), model[0], inputs, [targets], options)

    @cached_property
    def map(self) -> Tensor:
        """The map of the case as it is."""
        return self.maps()

    @cached_property
    def raw_sum(self) -> float:
        """The sum over all positions of the map of the raw score."""
        return float(self.raw(self.case.head, [self.case.target]).sum())


def raw_form(method: Method) -> Method:
    """Returns the method without ReLU and scaling, of which no map is linear."""
    known = inspect.signature(method.attribution.attribute).parameters
    off = {n: False for n in ("relu_attributions", "normalize") if n in known}
    if method.several_layers:
        off = {}  # a product of maps has no sign
    finish = method.finish
    if method.attribution in PER_CHANNEL:
        finish = partial(torch.sum, dim=1, keepdim=True)
    return replace(method, fixed={**method.fixed, **off}, finish=finish)


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Change) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        """Returns what the function makes of the values."""
        return self.function(values)


def then(part: nn.Module, function: Change) -> nn.Sequential:
    """Returns the part of a network, followed by the function."""
    return nn.Sequential(part, Apply(function))


def first(function: Change, part: nn.Module) -> nn.Sequential:
    """Returns the part of a network behind the function."""
    return nn.Sequential(Apply(function), part)


def over(part: Tensor, whole: Tensor) -> float | None:
    """Returns the norm of a part over that of the whole, None where that is zero."""
    return float(part.norm() / whole.norm()) if whole.any() else None


def in_shape(found: Tensor, expected: Tensor) -> float | None:
    """Returns the relative difference after the best common factor, 0 to 1.

    A factor changes no picture and no ranking.
    """
    square = found.square().sum()
    factor = (found * expected).sum() / torch.where(square > 0, square, 1)
    return over(factor * found - expected, expected)


def _rewritten(explain: Explainer, change: Change, undo: Change) -> float | None:
    """The same function with another layer's output: no map may change."""
    case = explain.case
    found = explain.maps(then(case.front, change), first(undo, case.head))
    return in_shape(found, explain.map)


def _channels(explain: Explainer) -> tuple[int, torch.Generator]:
    with torch.no_grad():
        count = explain.case.front(explain.case.inputs).shape[1]
    return count, torch.Generator().manual_seed(0)


def rescaled(explain: Explainer) -> float | None:
    """Each channel times a power of two, 1/4 to 4, which the head takes back."""
    count, generator = _channels(explain)
    # Powers of two, so that not even rounding distinguishes the two functions.
    factors = 2.0 ** torch.randint(-2, 3, (count, 1, 1), generator=generator)
    return _rewritten(explain, lambda a: a * factors, lambda a: a / factors)


def permuted(explain: Explainer) -> float | None:
    """The channels in another order."""
    count, generator = _channels(explain)
    order = torch.randperm(count, generator=generator)
    back = order.argsort()
    return _rewritten(explain, lambda a: a[:, order], lambda a: a[:, back])


def split(explain: Explainer) -> float | None:
    """Half of the channels in two halves, which the head adds."""
    count = _channels(explain)[0]
    half = count // 2

    def halves(a: Tensor) -> Tensor:
        return torch.cat([a[:, :half] / 2, a[:, half:], a[:, :half] / 2], 1)

    def joined(a: Tensor) -> Tensor:
        return torch.cat([a[:, :half] + a[:, count:], a[:, half:count]], 1)

    return _rewritten(explain, halves, joined)


def dummy_channels(explain: Explainer) -> float | None:
    """A quarter more channels, which the head ignores: the map may not change."""
    count = _channels(explain)[0]

    def more(a: Tensor) -> Tensor:
        return torch.cat([a, a[:, : count // 4].flip(-1)], 1)

    return _rewritten(explain, more, lambda a: a[:, :count])


def unseen_region(explain: Explainer) -> float | None:
    """The share of the map on the right quarter of an input that is hidden there."""
    case = explain.case
    width = case.inputs.shape[-1]
    seen = (torch.arange(width) < width - width // 4).to(case.inputs)
    # A module that hides would be a layer, and Poly-CAM would explain it as well.
    front = copy.deepcopy(case.front)
    front.register_forward_pre_hook(lambda _, inputs: (inputs[0] * seen,))
    found = explain.maps(front)
    energy = upsample(found, case.inputs.shape[2:]).abs()
    return over((energy * (1 - seen)).sum(), energy.sum())


def constant(explain: Explainer) -> float | None:
    """The map of a model with the same output for all inputs, over that of the case."""
    case = explain.case
    with torch.no_grad():
        output = case.head(case.front(case.inputs))
    found = explain.maps(head=then(case.head, lambda y: 0 * y + output))
    return over(found, explain.map)


def complete(explain: Explainer) -> float:
    """The sum of the map against the score less that of the baseline input 0."""
    case = explain.case
    return _gap(explain, case.front(torch.zeros_like(case.inputs)))


def complete_in_layer(explain: Explainer) -> float | None:
    """The same with the layer's output 0 as the baseline; None without a layer."""
    case = explain.case
    if not explain.method.of_layer:
        return None
    return _gap(explain, torch.zeros_like(case.front(case.inputs)))


def _gap(explain: Explainer, baseline: Tensor) -> float:
    case = explain.case
    outputs = case.head(torch.cat([case.front(case.inputs), baseline]))
    gain = float(outputs[0, case.target] - outputs[1, case.target])
    return abs(explain.raw_sum - gain) / abs(gain)


def linear(explain: Explainer) -> float | None:
    """The map of `2 f - 3 g` against `2 L_f - 3 L_g`, for the scores of two classes."""
    case = explain.case
    f, g = case.target, case.other

    def chosen(y: Tensor) -> Tensor:
        return torch.stack([y[:, f], y[:, g], 2 * y[:, f] - 3 * y[:, g]], 1)

    maps = explain.raw(then(case.head, chosen), [0, 1, 2])
    expected = 2 * maps[:, 0] - 3 * maps[:, 1]
    return over(maps[:, 2] - expected, expected)


def symmetric(explain: Explainer) -> float | None:
    """A model and an input that are their own mirror images: so must be the map."""
    case = explain.case

    # Poly-CAM finds no earlier layer in it, and multiplies nothing.
    def both(x: Tensor) -> Tensor:
        return torch.cat([case.front(x), case.front(x.flip(-1)).flip(-1)], 1)

    def mean(a: Tensor) -> Tensor:
        one, other = a.chunk(2, 1)
        found: Tensor = (case.head(one) + case.head(other.flip(-1))) / 2
        return found

    inputs = (case.inputs + case.inputs.flip(-1)) / 2
    found = explain.maps(Apply(both), Apply(mean), inputs)
    return over(found - found.flip(-1), found)


AXIOMS: dict[str, Callable[[Explainer], float | None]] = {
    "channels rescaled": rescaled,
    "channels permuted": permuted,
    "channels split": split,
    "dummy channels": dummy_channels,
    "unseen region": unseen_region,
    "constant model": constant,
    "complete, from input 0": complete,
    "complete, from layer 0": complete_in_layer,
    "linear": linear,
    "symmetric": symmetric,
}


def on_scenes() -> Iterator[Case]:
    """Yields the first object of each bundled scene."""
    model = load_network()
    head = nn.Sequential(model.pool, nn.Flatten(), model.head)
    for number, scene in enumerate(load_scenes()):
        inputs = preprocess(scene.image)
        target = scene.labels[0]
        about = "scene-net", f"scene_{number}", model.features, head, inputs, target
        yield Case(*about, _most_probable(model, inputs, target))


def on_photographs(count: int) -> Iterator[Case]:
    """Yields photographs with the class that ResNet-18 predicts."""
    model, _ = network("resnet18")
    *front, last, pool, classifier = model.children()
    head = nn.Sequential(last, pool, nn.Flatten(), classifier)
    for file in photographs(count):
        inputs = F.interpolate(as_input(file), SIZE, mode="area")
        target = _most_probable(model, inputs)
        about = "ResNet-18, layer3", str(file.relative_to(FOLDER / "images"))
        parts = nn.Sequential(*front), head, inputs, target
        yield Case(*about, *parts, _most_probable(model, inputs, target))


@torch.no_grad()
def _most_probable(model: nn.Module, inputs: Tensor, but: int | None = None) -> int:
    ranked = model(inputs)[0].argsort(descending=True).tolist()
    return next(label for label in ranked if label != but)


def asked(case: Case, kept: dict[str, float | None]) -> Iterator[Row]:
    """Yields a row for each method and axiom, measured where it is not kept yet."""
    for name, method in ASKED.items():
        explain = Explainer(method, case)
        for axiom, ask in AXIOMS.items():
            key = f"{case.network} {case.image} {name} {axiom}"
            if key not in kept:
                kept[key] = ask(explain)
            yield Row(case.network, case.image, name, axiom, kept[key])


def table(rows: list[Row]) -> str:
    """Returns the median violation of each axiom by each method, on each network."""
    blocks = []
    for name in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == name]
        images = len({row.image for row in own})
        lines = [
            [method.title, *(_cell(own, key, axiom) for axiom in AXIOMS)]
            for key, method in ASKED.items()
        ]
        blocks += [f"### {name}, {images} images"]
        blocks += [markdown_table(["method", *AXIOMS], lines)]
    return "\n\n".join(blocks) + "\n"


def _cell(rows: list[Row], method: str, axiom: str) -> str:
    found = [r.violation for r in rows if (r.method, r.axiom) == (method, axiom)]
    values = [v for v in found if v is not None]
    if not values:
        return ""
    value = median(values)
    if value < HOLDS:
        return "holds"
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def main() -> None:
    """Asks what is not kept yet, and writes table and rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("values", type=Path)
    parser.add_argument("--photographs", type=int, default=5)
    args = parser.parse_args()
    # Of zero maps and negative scores, which some axioms ask for.
    warnings.simplefilter("ignore")
    kept = torch.load(args.values) if args.values.exists() else {}
    here = (FOLDER / "weights" / "resnet18.pt").is_file()
    rows: list[Row] = []
    for case in chain(on_scenes(), on_photographs(args.photographs) if here else ()):
        for row in asked(case, kept):
            rows.append(row)
            torch.save(kept, args.values)
        print(case.network, case.image, flush=True)
    save_rows(OUT, rows)
    OUT.with_suffix(".md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
