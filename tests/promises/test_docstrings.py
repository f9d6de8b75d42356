"""Every public docstring is complete by itself, and shared parameters have one text.

`help()` shows one docstring, so no parameter is explained by a reference to another.
What is said of a parameter that a family shares stands in each docstring of the family;
the texts are compared here, so that none of them drifts.
"""

import dataclasses
import importlib
import inspect
import re

import pytest

from captum_iscam import attr, demo, metrics, visualization

ROOMS = (
    *("attr", "metrics", "targets", "demo", "layers", "networks", "methods"),
    *("reshape_transforms", "visualization"),
)
MODULES = ("captum_iscam", *(f"captum_iscam.{room}" for room in ROOMS))

# The text of a parameter in the first that has it is what it begins with in all others.
FAMILIES = {
    "score methods": (
        attr.LayerScoreCAM,
        attr.LayerIntegratedScoreCAM,
        attr.LayerSmoothedScoreCAM,
        attr.LayerPolyCAM,
        attr.RISE,
    ),
    "gradient methods": (
        attr.LayerGradCAMPlusPlus,
        attr.LayerSmoothGradCAMPlusPlus,
        attr.LayerCAM,
        attr.LayerHiResCAM,
        attr.LayerXGradCAM,
        attr.LayerIntegratedGradCAM,
    ),
    "layer masks": (attr.LayerAblationCAM, attr.LayerReciproCAM),
    "controls": (attr.ChannelMean, attr.CenterMap, attr.RandomMap),
    "metrics": (
        metrics.average_drop,
        *(f for n in metrics.__all__ if inspect.isfunction(f := getattr(metrics, n))),
    ),
    "figures": (visualization.visualize_rows, visualization.display_image),
    "scenes": (demo.draw_scene, demo.draw_scenes),
}
# Parameters that share their name with those of the family, but not their meaning.
OTHER_MEANING = {
    "RISE": {"inputs", "generator"},
    "LayerPolyCAM": {"layer", "relu_attributions"},
    "LayerReciproCAM": {"relu_attributions", "score"},
    "boxes_to_masks": {"size"},
    "draw_scenes": {"seed"},
}

SECTION = re.compile(r"^(\w+):\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\*{0,2}\w+) \(([^)]+)\): ((?:.|\n {5,})+)", re.MULTILINE)
REFERENCE = re.compile(r"\bSee |\bAs in |(?i:\bas (in |of |for )?:(class|func|meth):)")


def public_callables():
    """Yields functions, classes and their methods by name, each of them once."""
    seen = set()
    for module in map(importlib.import_module, MODULES):
        for name in getattr(module, "__all__", vars(module)):
            thing = getattr(module, name)
            home = getattr(thing, "__module__", None) or ""
            own = home == module.__name__ or hasattr(module, "__all__")
            protocol = getattr(thing, "_is_protocol", False)
            if not own or name.startswith("_") or protocol or not callable(thing):
                continue
            found = {"": thing}
            if inspect.isclass(thing):
                found.update(inspect.getmembers(thing, inspect.isfunction))
            for method, function in found.items():
                ours = function.__module__.startswith("captum_iscam")
                if ours and not method.startswith("_") and function not in seen:
                    seen.add(function)
                    yield f"{home}.{name}.{method}".rstrip("."), function


def sections(thing):
    return dict(SECTION.findall(inspect.cleandoc(thing.__doc__) + "\n"))


def documented(thing):
    """Returns type and text of each parameter, in the order of the docstring."""
    found = sections(thing)
    fields = dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")
    entries = ENTRY.findall(found.get("Attributes" if fields else "Args", ""))
    return {name: (kind, " ".join(text.split())) for name, kind, text in entries}


def parameters(thing):
    """Returns the parameters by the name that stands in the docstring."""
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
    found = list(inspect.signature(thing).parameters.values())
    unbound = inspect.isfunction(thing) and found and found[0].name == "self"
    return {stars.get(p.kind.name, "") + p.name: p for p in found[bool(unbound) :]}


def default_of(thing, parameter):
    if dataclasses.is_dataclass(thing):
        field = thing.__dataclass_fields__[parameter.name]
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
    return parameter.default


def says(text, default):
    """Whether the words after "Default: " name this default, and may explain it."""
    if callable(default):
        return text.strip("`").rpartition(".")[2] == default.__name__
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    return text == shown or text.startswith(f"{shown}, ")


CALLABLES = dict(public_callables())


@pytest.mark.parametrize("name", CALLABLES)
def test_every_parameter_is_explained_here(name):
    thing = CALLABLES[name]
    found, expected = documented(thing), parameters(thing)
    assert list(found) == list(expected)
    for parameter, (kind, text) in found.items():
        default = default_of(thing, expected[parameter])
        optional = default is not inspect.Parameter.empty
        assert kind.endswith(", optional") == optional, parameter
        meaning, _, stated = text.partition("Default: ")
        assert meaning, f"{parameter} has no text"
        assert bool(stated) == optional, parameter
        assert not optional or says(stated, default), f"{parameter}: {stated}"
    for title, text in sections(thing).items():
        if title in ("Args", "Attributes", "Returns", "Raises"):
            assert not REFERENCE.search(" ".join(text.split())), title


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_parameters_have_one_text(family):
    shared = {}
    for member in FAMILIES[family]:
        other = OTHER_MEANING.get(member.__name__, ())
        for parameter, text in texts(member).items():
            if parameter not in other:
                first = shared.setdefault(parameter, text)
                assert text.startswith(first), f"{parameter} of {member.__name__}"


def texts(thing):
    """Returns type and text of the parameters, without the defaults."""
    method = getattr(thing, "attribute", None)
    found = {**documented(thing), **(documented(method) if method else {})}
    return {n: f"({k}) {t.partition('Default: ')[0]}" for n, (k, t) in found.items()}
