"""What fuzzing draws for metrics: maps, masks and the options of each."""

from dataclasses import dataclass

import hypothesis.strategies as st
import torch
from hypothesis import assume
from promises.fuzzing.method_options import SEED, generators, several
from promises.fuzzing.situations import (
    WRONG,
    baselines,
    now_and_then,
    numbers,
    situations,
)

FORWARD = [
    "average_drop",
    "average_increase",
    "average_gain",
    "win_rate",
    "insertion",
    "deletion",
    "road",
    "road_most_relevant_first",
    "road_least_relevant_first",
    "infidelity",
    "adcc",
    "arcc",
    "single_deletion",
    "attainable_insertion",
    "attainable_deletion",
    "object_order",
    "irrelevant_object_share",
]
BY_PATCHES = ("single_deletion", "attainable_insertion", "attainable_deletion")
OF_OBJECTS = ("object_order", "irrelevant_object_share")
IMPUTING = ("road", "road_most_relevant_first", "road_least_relevant_first", "arcc")
# Those for which a score may be out of range.
BOUNDED = ("average_drop", "average_gain", "adcc", "arcc")
EXPLAINED = ["coherency", "sensitivity_max", "target_sensitivity"]
OF_MAPS = ["complexity", "sparseness"]
OF_MASKS = ["energy_pointing_game", "pointing_game", "mask_iou", "top_k_intersection"]
METRICS = [*FORWARD, *EXPLAINED, *OF_MAPS, *OF_MASKS]
NAN, INFINITY = float("nan"), float("inf")
SHARES = [0, -0.5, 1.5, NAN]


@dataclass(repr=False)
class MetricInputs:
    """One call of a metric to come.

    Attributes:
        flaws (set[str]): Arguments that are wrong; without any there must be a value.
        perhaps (set[str]): Arguments that may be wrong, which the model decides.
    """

    situation: object
    maps: object
    masks: object
    own: dict
    flaws: set
    perhaps: set

    def __repr__(self):
        told = [self.situation, f"maps {self.maps}", f"masks {self.masks}"]
        told += [self.own, f"flaws {self.flaws}, perhaps {self.perhaps}"]
        return "\n".join(map(str, told))


def picture(inputs, target=None, additional_forward_args=None):
    """An explanation that needs no model: the mean of the channels, moved."""
    x = inputs[0] if isinstance(inputs, tuple) else inputs
    turn = target if type(target) is int else 0
    return x.detach().mean(1, keepdim=True).roll(turn, -1)


@st.composite
def attributions(draw, image, whole, alone):
    """Maps of a layer's or the input's size, alone or with others, their flaws."""
    count, sides = len(image), image.shape[2:]
    if not whole:
        sides = [draw(st.sampled_from(sorted({1, -(-n // 2), n}))) for n in sides]
    shape = (count, 1, *sides)
    maps = numbers(shape, draw(st.integers(0, 999)), image.dtype)
    if now_and_then(draw, WRONG // 2) and count:
        wrong = [maps.long(), maps.expand(-1, 3, *sides), [maps]]
        # A first side of 1 would pass for the channel of maps with a dimension less.
        wrong += [maps[:, 0]] if sides[0] > 1 or len(sides) == 1 else []
        larger = maps.repeat(1, 1, *[3] * len(sides))
        # Without an input no number and no size of maps is wrong.
        wrong += [] if alone else [torch.cat([maps, maps])]
        if any(n > m for n, m in zip(larger.shape[2:], image.shape[2:], strict=True)):
            wrong += [] if alone else [larger]
        return draw(st.sampled_from(wrong)), {"attributions"}
    kind = draw(st.sampled_from(["normal", "normal", "ties", "constant", "NaN"]))
    if kind == "ties":
        maps = maps.round()
    if kind == "constant":
        maps = torch.full_like(maps, 0.5)
    if kind == "NaN" and count:
        maps[-1].flatten()[-1] = draw(st.sampled_from([torch.nan, torch.inf]))
    return (maps,) if now_and_then(draw, 8) else maps, set()


@st.composite
def marks(draw, image):
    """Masks of where an object is, and their flaws."""
    count, sides = len(image), image.shape[2:]
    masks = numbers((count, 1, *sides), draw(st.integers(0, 99))) > 0.5
    if count:
        masks.view(count, -1)[:, draw(st.integers(0, masks[0].numel() - 1))] = True
    if now_and_then(draw, WRONG // 2) and count:
        wrong = [masks & False, masks.double() / 2, [masks], masks[..., :0]]
        return draw(st.sampled_from(wrong)), {"masks"}
    forms = [masks, masks.long(), masks.double(), masks[:, 0]]
    return draw(st.sampled_from(forms)), set()


KEEP = ("keep", [None, 0.3, 1.0], [*SHARES, "half"])
OWN = {
    "average_drop": [KEEP, ("absolute", [True, False], [])],
    "average_increase": [KEEP],
    "average_gain": [KEEP],
    "win_rate": [KEEP],
    "insertion": [("steps", [1, 3, 5], [0, 2.0, 10**6, "3"])],
    "deletion": [("steps", [1, 3, 5], [0, 2.0, 10**6, "3"])],
    "infidelity": [
        ("patch", [0.1, 0.5, 1], [*SHARES, "half"]),
        ("normalize", [True, False], []),
    ],
    "sensitivity_max": [("perturb_radius", [0, 0.5], [-1, NAN, INFINITY, "r"])],
    "pointing_game": [("tolerance", [0, 0.0], [-1, NAN, INFINITY, "t"])],
    "mask_iou": [("threshold", [0, 0.25, 0.9], [1, -0.5, NAN, "t"])],
    "top_k_intersection": [("k", [None, 1], [0, 10**6, 2.0, "k"])],
}
NEGLIGIBLE = ("negligible", [0, 0.05, 0.5], [1, -0.5, NAN, "n"])
OWN["irrelevant_object_share"] = [NEGLIGIBLE]
ROADS = [("noise", [0, 0.1], [-1, NAN, INFINITY, "n"])]


def objects_in(image):
    """Two objects: the first position, and the whole image."""
    first = torch.zeros(image.shape[2:], dtype=torch.bool)
    first.view(-1)[:1] = True
    masks = torch.stack([first, torch.ones_like(first)]).expand(
        len(image), -1, *first.shape
    )
    without = image.detach().unsqueeze(1).masked_fill(masks.unsqueeze(2), 0)
    return {"interventions": without, "object_masks": masks}


def patches_of(draw, name, s):
    """A number of patches, and whether it does not fit."""
    own, flaws = several(draw, ("patches", [2, 3], [1, 0, 2.0, 10**6, "3"]))
    own.setdefault("patches", 2)
    if not flaws and own["patches"] > min(s.image.shape[2:]):
        flaws = {"patches"}
    return own, flaws


def own_options(draw, name, s):
    """The options of one metric, and their flaws."""
    own, flaws = several(draw, *[c for c in OWN.get(name, ()) if c[2]])
    for choice in [c for c in OWN.get(name, ()) if not c[2]]:
        own[choice[0]] = draw(st.sampled_from(choice[1]))
    if name in IMPUTING:
        own, flaws = several(draw, *ROADS)
        own["percentiles"] = draw(st.sampled_from([(50,), (30, 60)]))
    if name in ("insertion", "deletion"):
        pixels = s.image.shape[2:].numel()
        own.setdefault("steps", min(2, pixels))
        flaws |= (
            {"steps"} if own["steps"] in (3, 5) and own["steps"] > pixels else set()
        )
        own |= draw(st.sampled_from([{}, {}, {"substrate": "blur"}, {"substrate": 2}]))
    if own.get("keep") is not None and not flaws:
        own |= draw(st.sampled_from([{}, {"binary": True}]))
    if name in ("infidelity", "sensitivity_max"):
        more, wrong = several(draw, ("n_perturb_samples", [1, 2, 5], [0, 2.0, "3"]))
        own, flaws = {"n_perturb_samples": 4} | own | more, flaws | wrong
    if name in IMPUTING or "n_perturb_samples" in own:
        source, wrong = generators(draw)
        own, flaws = own | source, flaws | wrong
    if name == "target_sensitivity":
        own["target"] = draw(st.integers(0, 1))
        own["other_target"] = draw(st.integers(0, 2))
    return own, flaws


def shared_options(draw, name, s):
    """What all metrics with a model take, and their flaws."""
    own, flaws = {"score": s.score}, s.flaws - {"layer", "reshape_transform"}
    without = ("insertion", "deletion", *OF_OBJECTS, *BY_PATCHES[1:], *IMPUTING[:3])
    if name in without:
        given, wrong = {}, set()
    else:
        given, wrong = draw(baselines(s.image, s.vector))
    if s.score == "softmax" and s.net.form in ("one", "flat"):
        flaws = flaws | {"score"}
    size = {k: v for k, v in s.arguments.items() if k == "internal_batch_size"}
    return own | given | size, flaws | wrong


def flaws_of_images(name, s):
    """Returns what ROAD cannot do with the inputs, for certain and perhaps."""
    if name not in IMPUTING:
        return set(), set()
    # Only images of some size have a pixel to remove and one to leave.
    flat = s.image.dim() == 4
    small = flat and s.image[:1, 0].numel() < 3
    return (set() if flat else {"attributions"}), ({"percentiles"} if small else set())


def with_a_model(draw, name, s, shown):
    """The options of a metric that asks a model, its flaws, certain and possible."""
    own, flaws = shared_options(draw, name, s)
    own |= objects_in(s.image) if name in OF_OBJECTS else {}
    if name == "win_rate":
        own["rival"] = numbers((len(s.image), 1, *s.image.shape[2:]), SEED, s.dtype)
    if name in ("adcc", "arcc"):
        own["explanation_func"] = picture
    perhaps = {"forward_func"} if s.dtype == torch.float16 else set()
    perhaps |= {"score"} if name in BOUNDED else set()
    # An input with NaN whose map has NaN too is not scored, and where all
    # maps have, nothing is.
    hidden = {"forward_func"} | (set() if shown else {"target", "score"})
    return own, flaws - hidden, perhaps | (flaws & hidden)


@st.composite
def metric_cases(draw, name):
    """Everything for one call of a metric."""
    s = draw(situations())
    # What the method itself says of odd inputs comes through.
    assume(name != "target_sensitivity" or "inputs" not in s.flaws)
    whole = name in ("coherency", "adcc", "arcc")
    maps, flaws = draw(attributions(s.image, whole, alone=name in OF_MAPS))
    if name in ("sensitivity_max", "target_sensitivity"):
        flaws = set()
    options = patches_of if name in BY_PATCHES else own_options
    own, wrong = options(draw, name, s)
    certain, perhaps = flaws_of_images(name, s)
    flaws, masks = flaws | wrong | certain, None
    if len(s.image) == 0:
        flaws |= {"inputs", "attributions", "explanation_func", "masks"}
    if name in FORWARD:
        held = maps[0] if isinstance(maps, (list, tuple)) else maps
        shown = bool(held.isfinite().flatten(1).all(1).any())
        given, wrong, more = with_a_model(draw, name, s, shown)
        own, flaws, perhaps = own | given, flaws | wrong, perhaps | more
    if name in EXPLAINED:
        flaws |= s.flaws & {"inputs"}
        perhaps |= {"inputs", "explanation_func"}
    if name in OF_MASKS:
        masks, wrong = draw(marks(s.image))
        # Maps that are too large are masks that are too small.
        flaws, perhaps = flaws | wrong, {"masks"} if flaws else set()
    return MetricInputs(s, maps, masks, own, flaws, perhaps)
