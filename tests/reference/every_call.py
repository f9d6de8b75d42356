"""Calls of anything that runs a model, and the forms in which it may be given."""

import torch
from reference.methods import METHODS, attribute

from captum_iscam import RISE
from captum_iscam.attr import ChannelMean
from captum_iscam.metrics import average_drop, infidelity, insertion

METRICS = {"average drop": average_drop, "insertion": insertion, "infid": infidelity}
LAYERED = [*METHODS, "channel mean"]
ALL = [*LAYERED, "rise"]


def explain(name, model, layer, x, target, **options):
    """A map by any method, RISE and controls among them, or a metric of one."""
    if name in METRICS:
        first = x[0] if isinstance(x, tuple) else x
        maps = torch.rand(len(first), 1, *first.shape[2:], dtype=first.dtype)
        return METRICS[name](model, x, maps, target)
    if name == "rise":
        generator = torch.Generator().manual_seed(7)
        rise = RISE(model, **options.pop("constructor", {}))
        given = {"n_masks": 5, "grid": 3, "generator": generator, **options}
        return rise.attribute(x, target, **given)
    if name == "channel mean":
        control = ChannelMean(model, layer, **options.pop("constructor", {}))
        return control.attribute(x, target, **options)
    return attribute(name, model, layer, x, target, **options)


def as_module(net):
    return net


def as_function(net):
    return lambda x: net(x)


def as_object(net):
    class Holder:
        def __call__(self, x):
            return net.head(inner(x))

    def inner(x):
        hidden = torch.relu(net.mix(net.features(x)))
        return hidden.flatten(2).amax(2) + hidden.flatten(2).mean(2)

    return Holder()


def buffers_of(net):
    return {name: (id(b), b.clone()) for name, b in net.named_buffers()}


def assert_same_buffers(before, net):
    after = buffers_of(net)
    assert before.keys() == after.keys()
    for name, (identity, value) in before.items():
        assert identity == after[name][0], name
        assert torch.equal(value, after[name][1]), name
