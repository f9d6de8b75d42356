"""What fuzzing draws: a network, its inputs and everything else a caller may pass.

A situation knows its own flaws: the arguments of which an error has to speak. One
without flaws must give a map, one with flaws an error.
"""

from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
import torch
from promises.fuzzing.small_network import (
    ACTIVATIONS,
    VECTOR,
    SmallNetwork,
    WithScale,
    WithVector,
)

SIDES = {
    1: st.sampled_from([1, 2, 5, 8, 13, 31, 257]),
    2: st.sampled_from([1, 2, 3, 5, 7, 8, 13]),
    3: st.sampled_from([1, 2, 3, 4, 5]),
}
LARGE = {
    1: st.sampled_from([63, 512, 1021]),
    2: st.sampled_from([17, 32, 47, 61]),
    3: st.sampled_from([7, 9, 12]),
}
DTYPES = (torch.float64, torch.float64, torch.float32)
HALF = (torch.bfloat16, torch.float16)
WRONG = 32  # one of so many draws of an argument is a wrong one
WRONG_SIZES = (0, -3, 2.5, "4", True)
DEPTHS = {"stem": 1, "act": 2, "mix": 3}


@dataclass(repr=False)
class Situation:
    """One call to come, and what is wrong with it.

    Attributes:
        rows (list[tuple[int, ...]]): The target of each example, in full.
        depth (int): How many steps of the network lie before the maps explained.
        flaws (set[str]): Arguments that are not as they must be.
    """

    net: SmallNetwork
    model: torch.nn.Module
    layer: object
    depth: int
    inputs: object
    image: torch.Tensor
    vector: torch.Tensor | None
    scale: torch.Tensor | None
    target: object
    rows: list
    constructor: dict
    arguments: dict
    flaws: set = field(default_factory=set)

    @property
    def dtype(self):
        return self.image.dtype

    @property
    def score(self):
        return self.constructor["score"]

    def __repr__(self):
        net, x = self.net, self.image
        told = [f"{tuple(x.shape)} {x.dtype}, {net.form} of {net.classes}", net.stem]
        told += [net.act, f"depth {self.depth}", self.model._get_name()]
        told += [f"target={self.target!r}", self.constructor, self.arguments]
        return "\n".join(
            map(str, [*told, f"flaws {self.flaws}", f"x0 {x.flatten()[:3]}"])
        )


def in_a_list(maps):
    return [maps]


def tripled(output):
    return 3 * output.tanh()


def numbers(shape, seed, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (scale * drawn).to(dtype)


def now_and_then(draw, share=8):
    """True about once in `share` draws."""
    return draw(st.integers(0, share - 1)) == share - 1


@st.composite
def images(draw, spatial, count, channels, dtype):
    """An input: normal, constant or zero, and in any layout of memory."""
    sides = (LARGE if now_and_then(draw, 12) else SIDES)[spatial]
    shape = (count, channels, *(draw(sides) for _ in range(spatial)))
    seed = draw(st.integers(0, 999))
    kind = draw(st.sampled_from(["normal"] * 4 + ["zero", "constant"]))
    if kind != "normal":
        return torch.full(shape, 0.5 * (kind == "constant")).to(dtype)
    x = numbers(shape, seed, dtype, draw(st.sampled_from([0.01, 1.0, 1.0, 8.0])))
    layout = draw(st.sampled_from(["plain", "channels last", "strided"]))
    if layout == "channels last" and spatial == 2:
        return x.to(memory_format=torch.channels_last)
    if layout == "strided":
        return torch.stack([x, x], -1)[..., 0]
    return x


@st.composite
def targets(draw, net, count):
    """A target in one of Captum's forms, the row of each example, and its flaws."""
    form, classes = net.form, net.classes
    if form in ("flat", "one"):
        if form == "one" and now_and_then(draw, WRONG):
            return 7, [(0,)] * count, {"target"}
        return draw(st.sampled_from([None, None, *([0] * (form == "one"))])), [], set()
    if now_and_then(draw, WRONG):
        wrong = [classes, -classes - 1, [0] * (count + 1), (0, 0, 0), torch.tensor(0.5)]
        wrong += [None, "cat", 1.5, [0.5] * count, [classes] * count, (0.5,), []]
        if form != "classes":  # where a column is one class each
            wrong += [torch.zeros(count, 1).long()] * (count > 1) + [[[0]] * count]
        wrong += [torch.ones(count).bool()]
        wrong += [[(0.5,)] * count, [(0, 0, 0)] * count, {}, [[0.5]] * count]
        wrong += [True, (True,), torch.zeros(count) * 1j, [0, (0,)], [True, False]]
        return draw(st.sampled_from(wrong)), [], {"target"}
    ranges = [st.integers(0, 1)] * (form == "grid") + [st.integers(0, classes - 1)]
    index = st.tuples(*ranges)
    if draw(st.booleans()):
        one = draw(index)
        forms = [one, [one] * count]
        if form == "classes":
            forms += [one[0], one[0] - classes, torch.tensor(one[0])]
            forms += [torch.tensor([one[0]]), [one[0]] * count, np.int64(one[0])]
        return draw(st.sampled_from(forms)), [one] * count, set()
    each = draw(st.lists(index, min_size=count, max_size=count))
    plain = [row[0] for row in each]
    forms = [each]
    if form == "classes":
        forms += [plain, torch.tensor(plain), torch.tensor(plain).to(torch.uint8)]
    return draw(st.sampled_from(forms)), each, set()


@st.composite
def layers(draw, net):
    """A layer or several, its depth, the arguments that go with it, and its flaws."""
    if now_and_then(draw, WRONG):
        stranger = draw(st.sampled_from([net.unused, "stem", []]))
        return stranger, 1, {}, {"layer"}
    if now_and_then(draw):
        return [net.act, net.mix], 2, {}, set()
    name = draw(st.sampled_from(sorted(DEPTHS)))
    to_input = now_and_then(draw, 4)
    own = {"attribute_to_layer_input": True} if to_input else {}
    return getattr(net, name), DEPTHS[name] - to_input, own, set()


@st.composite
def chunk_sizes(draw):
    """The argument `internal_batch_size`, and its flaws."""
    if now_and_then(draw, WRONG):
        size = draw(st.sampled_from(WRONG_SIZES))
        return {"internal_batch_size": size}, {"internal_batch_size"}
    size = draw(st.sampled_from([None, 1, 2, 3, 7, 1000]))
    return ({} if size is None else {"internal_batch_size": size}), set()


@st.composite
def baselines(draw, image, vector):
    """The argument `baselines` in one of its forms, and its flaws."""
    shapes = [image.shape, (1, *image.shape[1:])]
    if now_and_then(draw, WRONG):
        wrong = ["black", (0, 0, 0), torch.zeros(shapes[0][:-1])]
        return {"baselines": draw(st.sampled_from(wrong))}, {"baselines"}
    form = draw(st.sampled_from(["none", "none", "number", "example", "batch"]))
    if form == "none":
        return {}, set()
    value = 0.25
    if form != "number":
        shape = shapes[form == "example"]
        value = numbers(shape, draw(st.integers(0, 99)), image.dtype)
    if vector is not None:
        value = (value, 0) if form != "number" or draw(st.booleans()) else value
    return {"baselines": value}, set()


@st.composite
def networks(draw):
    spatial = draw(st.integers(1, 3))
    form = draw(st.sampled_from(["classes"] * 5 + ["grid", "one", "flat"]))
    net = SmallNetwork(
        spatial,
        channels=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 4) | st.just(12)),
        kernel=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 2)),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        classes=draw(st.integers(2, 4)),
        form=form,
        seed=draw(st.integers(0, 999)),
    )
    return net, spatial


@st.composite
def constructors(draw):
    """The arguments of the constructor, and their flaws."""
    if now_and_then(draw, WRONG):
        return {"score": draw(st.sampled_from(["logits", 3, None]))}, {"score"}
    own = {"score": draw(st.sampled_from(["softmax", "sigmoid", "identity", tripled]))}
    if now_and_then(draw, 4):
        own["reshape_transform"] = torch.clone
    if now_and_then(draw, WRONG):
        wrong = [(7, 7), in_a_list]
        own["reshape_transform"] = draw(st.sampled_from(wrong))
        return own, {"reshape_transform"}
    return own, set()


@st.composite
def callers_inputs(draw, net, image):
    """The model, its inputs, the vector and the scale in them, and their flaws."""
    count, flaws = len(image), set() if len(image) else {"inputs"}
    model, inputs, vector, scale = net, image, None, None
    if now_and_then(draw):
        scale = numbers((count,), 5, image.dtype)
        model = WithScale(net)
    if now_and_then(draw):
        vector = numbers((count, VECTOR), 6, image.dtype)
        model, inputs = WithVector(net), (image, vector)
    elif draw(st.booleans()):
        inputs = (image,)
    if now_and_then(draw, WRONG):
        wrong = [[1.0], torch.tensor(1.0), image.long(), (image, image[:0]), ()]
        wrong += [image.detach().to_sparse()]
        # Baselines for two inputs do not fit a single wrong one either.
        inputs, flaws = draw(st.sampled_from(wrong)), {"inputs", "baselines"}
    elif now_and_then(draw, WRONG) and count:
        image[-1] = torch.nan
        flaws |= {"forward_func"}
    return (model.eval(), inputs, vector, scale), flaws


@st.composite
def situations(draw):
    """Everything that all methods share."""
    net, spatial = draw(networks())
    dtype = draw(st.sampled_from(HALF if now_and_then(draw) else DTYPES))
    count = draw(st.integers(0, 5)) if now_and_then(draw, 4) else 2
    image = draw(images(spatial, count, net.stem.in_channels, dtype))
    parts, flaws = draw(callers_inputs(net.to(dtype), image))
    model, inputs, vector, scale = parts
    image.requires_grad_(draw(st.booleans()))
    target, rows, bad_target = draw(targets(net, count))
    layer, depth, arguments, bad_layer = draw(layers(net))
    size, bad_size = draw(chunk_sizes())
    constructor, bad_constructor = draw(constructors())
    arguments = {**arguments, **size}
    if scale is not None:
        arguments["additional_forward_args"] = scale
    flaws |= bad_target | bad_layer | bad_size | bad_constructor
    drawn = (net, model, layer, depth, inputs, image, vector, scale)
    return Situation(*drawn, target, rows, constructor, arguments, flaws)
