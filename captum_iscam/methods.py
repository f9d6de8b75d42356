"""Every method by name: how it is built, called and recorded.

The command line and benchmarks choose methods from one table, so that a further method
is one more entry in `METHODS`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.target import Target, in_integers, several_targets
from captum_iscam._utils.training import without_traces
from captum_iscam._utils.validation import closest
from captum_iscam.attr import (
    RISE,
    LayerAblationCAM,
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerPolyCAM,
    LayerReciproCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)
from captum_iscam.attr.controls import CenterMap, ChannelMean, RandomMap
from captum_iscam.attr.finer_cam import FinerCAM
from captum_iscam.attr.grad_cam import GradCAM, warn_of_no_support
from captum_iscam.attr.integrated_gradients import CheckedIntegratedGradients
from captum_iscam.attr.integrated_score_cam import POINTS, SHARE
from captum_iscam.attr.occlusion import WindowOcclusion
from captum_iscam.layers import stages
from captum_iscam.transformers import reshape_transform_for


@dataclass(frozen=True)
class Options:
    """What can be set for all methods; each method uses what it takes.

    Attributes:
        n_samples (int, optional): Number of noisy copies of each input, masked or
            whole. Default: 35
        seed (int, optional): Seed of the noise and of random masks, used anew in every
            call. Default: 0
        internal_batch_size (int, optional): Inputs per forward pass. Default: None,
            that is the method's own default
        show_progress (bool, optional): Show a progress bar on standard error.
            Default: False
        n_masks (int, optional): Number of random masks of each input. Default: 4000
        stdevs (float, optional): Standard deviation of the noise, in the units of the
            input. Default: None, that is the method's own default
        screening (float, optional): Share of the channels, above 0 and up to 1, that is
            scored; the weights of the others are predicted. Default: None, that is
            every channel, and for IS-CAM 0.45 of them
        score (str, optional): The score of an output: "softmax", "sigmoid" (a single
            logit, or labels that do not exclude each other) or "identity". Default:
            None, that is the method's own default
        n_steps (int, optional): Points on the path of IS-CAM, each one forward pass per
            channel. Default: None, that is the default rule
    """

    n_samples: int = 35
    seed: int = 0
    internal_batch_size: int | None = None
    show_progress: bool = False
    n_masks: int = 4000
    stdevs: float | None = None
    screening: float | None = None
    score: str | None = None
    n_steps: int | None = None


@dataclass(frozen=True)
class Method:
    """One method of the table.

    Attributes:
        title (str): The method's name in figures and tables.
        attribution (type): The attribution class.
        takes (tuple[str, ...], optional): Names of the :class:`Options` that the method
            takes. Default: ()
        fixed (Mapping[str, Any], optional): Further arguments of the class's
            `attribute`, by name. Default: {}
        of_layer (bool, optional): Whether the class is built with a layer, else with
            the model alone. Default: True
        control (bool, optional): Whether the method is a control: its map does not
            depend on the class, and a method should be better. Default: False
        built_with_generator (bool, optional): Whether the class, not `attribute`, takes
            the generator made from the seed. Default: False
        several_layers (bool, optional): Whether the class combines several layers: the
            last of each size up to the layer to explain. Default: False
        resolved (Callable, optional): For the record, given the arguments, the value
            that is used where one is None, by argument. Default: None, that is none
        finish (Callable, optional): Makes maps `(N, T, *spatial)` of what the class's
            `attribute` returns. Default: `torch.Tensor.detach`
    """

    title: str
    attribution: type[Any]
    takes: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    of_layer: bool = True
    control: bool = False
    built_with_generator: bool = False
    several_layers: bool = False
    resolved: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    finish: Callable[[Tensor], Tensor] = torch.Tensor.detach

    def attribute(
        self,
        model: nn.Module,
        layer: nn.Module,
        inputs: Tensor,
        target: Target,
        options: Options | None = None,
    ) -> Tensor:
        """Returns the maps of the inputs.

        Args:
            model (torch.nn.Module): A classifier that gives logits `(N, classes)`.
            layer (torch.nn.Module): The layer to explain; methods that explain the
                input itself ignore it. Tokens of torchvision's transformers are turned
                into maps.
            inputs (Tensor): Inputs `(N, C, *spatial)`, floating point.
            target (int, tuple, Tensor or list): The output to explain, in Captum's
                forms: one index for all examples, a list or 1-D tensor with one per
                example, tuples for outputs of more than two dimensions. None for a
                model with one number per example. An integer tensor or nested list
                `(N, T)`, or one row `(1, T)` for all examples, explains T classes of
                each example. A class that takes several targets is called once, any
                other once per target, with the same noise.
            options (Options, optional): What can be set for all methods; each method
                uses what it takes. Default: None, that is `Options()`

        Returns:
            *Tensor* `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, detached,
            never negative: of the layer's size, or the input's for methods without a
            layer.

        Examples::

            >>> _ = torch.manual_seed(0)
            >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
            >>> model = nn.Sequential(features, nn.Flatten(), nn.Linear(36, 5)).eval()
            >>> images = torch.rand(2, 3, 8, 8)
            >>> METHODS["is-cam"].attribute(model, features, images, target=0).shape
            torch.Size([2, 1, 3, 3])
            >>> METHODS["is-cam"].attribute(model, features, images, [[0, 2]]).shape
            torch.Size([2, 2, 3, 3])
        """
        options = options or Options()
        arguments = self._arguments(options)
        built_with = {k: arguments.pop(k) for k in ("score",) if k in arguments}
        if "seed" in self.takes:
            of = built_with if self.built_with_generator else arguments
            of["generator"] = torch.Generator().manual_seed(options.seed)
        layers = stages(model, layer, inputs[:1]) if self.several_layers else layer
        explain = self._build(model, layers, inputs, **built_with)
        columns = several_targets(in_integers(target), len(inputs))
        if columns is not None and not getattr(explain, "takes_several_targets", False):
            each = [
                self.attribute(model, layer, inputs, column, options)
                for column in columns.to(inputs.device).unbind(1)
            ]
            return torch.cat(each, 1)
        if "show_progress" in self.takes:
            arguments["show_progress"] = options.show_progress
        attributions = explain.attribute(inputs, target=target, **arguments)
        own = isinstance(explain, self.attribution)
        return self.finish(attributions) if own else attributions.detach()

    def _build(
        self,
        model: nn.Module,
        layer: nn.Module | list[nn.Module],
        inputs: Tensor,
        **arguments: Any,
    ) -> Any:
        captums = self.attribution.__module__.partition(".")[0] == "captum"
        forward_func = without_traces(model) if captums else model
        if not self.of_layer:
            return self.attribution(forward_func, **arguments)
        last = layer[-1] if isinstance(layer, list) else layer
        transform = reshape_transform_for(model, last, inputs)
        if transform is None:
            return self.attribution(forward_func, layer, **arguments)
        return self.attribution(model, layer, reshape_transform=transform, **arguments)

    def settings(self, options: Options | None = None) -> dict[str, Any]:
        """Returns all arguments the method runs with, as a record of it.

        Args:
            options (Options, optional): What can be set for all methods; each method
                uses what it takes. Default: None, that is `Options()`

        Returns:
            *dict*: Each argument's value by its name, for arguments with plain values.

        Examples::

            >>> METHODS["ss-cam"].settings(Options(n_samples=8))["n_samples"]
            8
        """
        options = options or Options()
        plain = (bool, int, float, str, type(None))
        record = {
            name: parameter.default
            for of in (self.attribution, self.attribution.attribute)
            for name, parameter in inspect.signature(of).parameters.items()
            if isinstance(parameter.default, plain) and name not in _NO_SETTING
        }
        record.update(self._arguments(options))
        resolved = self.resolved(record) if self.resolved else {}
        record.update({k: v for k, v in resolved.items() if record[k] is None})
        if "seed" in self.takes:
            record["seed"] = options.seed
        return record

    def _arguments(self, options: Options) -> dict[str, Any]:
        arguments = dict(self.fixed)
        for name in self.takes:
            value = getattr(options, name)
            if name not in ("seed", "show_progress") and value is not None:
                arguments[name] = value
        return arguments


# Arguments that say what is explained, where and for whom, not how.
_NO_SETTING = (
    "additional_forward_args",
    "device_ids",
    "generator",
    "reshape_transform",
    "show_progress",
    "target",
)


def _positive_sum(attributions: Tensor) -> Tensor:
    """What supports the target at each pixel: channels summed, then rectified."""
    return warn_of_no_support(attributions.detach().sum(1, keepdim=True).relu())


def _rule(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What IS-CAM computes where less is given."""
    if given["n_steps"] is None:
        return {"method": "gaussradau", "n_steps": POINTS, "screening": SHARE}
    return {"method": "gausslegendre"}


_PASSES = ("internal_batch_size", "show_progress")
_SCORED = ("score", *_PASSES)
_CHANNELS = ("screening", *_SCORED)
_GRADIENTS = ("score", "internal_batch_size")
_NOISY = ("n_samples", "stdevs", "seed")

METHODS: dict[str, Method] = {
    "is-cam": Method(
        "IS-CAM",
        LayerIntegratedScoreCAM,
        ("n_steps", *_CHANNELS),
        resolved=_rule,
    ),
    "ss-cam": Method(
        "SS-CAM",
        LayerSmoothedScoreCAM,
        (*_NOISY, *_CHANNELS),
        resolved=lambda _: {"stdevs": "(2 / range)**2 of the masked input"},
    ),
    "score-cam": Method("Score-CAM", LayerScoreCAM, _CHANNELS),
    "integrated-grad-cam": Method(
        "Integrated Grad-CAM", LayerIntegratedGradCAM, _GRADIENTS
    ),
    "grad-cam": Method("Grad-CAM", GradCAM, fixed={"relu_attributions": True}),
    "finer-cam": Method("Finer-CAM", FinerCAM),
    "grad-cam++": Method("Grad-CAM++", LayerGradCAMPlusPlus, _GRADIENTS),
    "smooth-grad-cam++": Method(
        "Smooth Grad-CAM++",
        LayerSmoothGradCAMPlusPlus,
        (*_NOISY, *_GRADIENTS),
    ),
    "layer-cam": Method("LayerCAM", LayerCAM, _GRADIENTS),
    "hires-cam": Method("HiResCAM", LayerHiResCAM, _GRADIENTS),
    "xgrad-cam": Method("XGrad-CAM", LayerXGradCAM, _GRADIENTS),
    "ablation-cam": Method("Ablation-CAM", LayerAblationCAM, _SCORED),
    "recipro-cam": Method("Recipro-CAM", LayerReciproCAM, _SCORED),
    "poly-cam": Method("Poly-CAM", LayerPolyCAM, _CHANNELS, several_layers=True),
    "rise": Method("RISE", RISE, ("n_masks", "seed", *_SCORED), of_layer=False),
    "integrated-gradients": Method(
        "Integrated Gradients",
        CheckedIntegratedGradients,
        ("internal_batch_size",),
        of_layer=False,
        finish=_positive_sum,
    ),
    "occlusion": Method(
        "Occlusion",
        WindowOcclusion,
        _PASSES,
        of_layer=False,
        finish=_positive_sum,
    ),
    "random-map": Method(
        "Random map",
        RandomMap,
        ("seed",),
        control=True,
        built_with_generator=True,
    ),
    "center-map": Method("Centre map", CenterMap, control=True),
    "channel-mean": Method("Channel mean", ChannelMean, control=True),
}


_GROUPS = ("all", "controls")
# It is typed in a list and names a folder of maps.
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")


def register_method(name: str, method: Method) -> Method:
    """Adds a method to `METHODS`, so that the command line and benchmarks know it.

    Args:
        name (str): Its name there: lower-case letters, digits, `.`, `_`, `+` and `-`.
        method (Method): The method.

    Returns:
        *Method*, the one given.

    Raises:
        ValueError: If the name is of another form or taken, or the method takes
            something that is not one of the :class:`Options`.

    Examples::

        >>> class LayerMine(LayerScoreCAM):
        ...     pass
        >>> _ = register_method("mine", Method("Mine", LayerMine))
        >>> find_methods("mine, score-cam")
        ['mine', 'score-cam']
        >>> del METHODS["mine"]
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name must be lower-case letters, digits, '.', '_', '+' and '-', got "
            f"{name!r}. Rename the method."
        )
    old = METHODS.get(name)
    # A cell of a notebook that is run again defines the same class again.
    again = old is not None and _home(old) == _home(method)
    if name in _GROUPS or (old is not None and not again):
        raise ValueError(
            f"name must be one that no method or group has, got {name!r}. Rename the "
            "method."
        )
    options = [option.name for option in fields(Options)]
    unknown = [option for option in method.takes if option not in options]
    if unknown:
        raise ValueError(
            f"takes must be names of options, got {', '.join(unknown)} in {name}. The "
            f"options are: {', '.join(options)}; put other arguments into fixed."
        )
    METHODS[name] = method
    return method


def _home(method: Method) -> tuple[str, str]:
    return method.attribution.__module__, method.attribution.__qualname__


def find_methods(names: str) -> list[str]:
    """Returns the names in a comma-separated list of methods, each once.

    Args:
        names (str): Names from `METHODS`, separated by commas; "all" stands for all
            that are no controls, "controls" for those that are.

    Returns:
        *list[str]*: The names, in the order given.

    Raises:
        ValueError: If there is none, or one is unknown; the message lists all.

    Examples::

        >>> find_methods("is-cam, score-cam")
        ['is-cam', 'score-cam']
        >>> find_methods("controls")
        ['random-map', 'center-map', 'channel-mean']
    """
    groups = {
        "all": [name for name in METHODS if not METHODS[name].control],
        "controls": [name for name in METHODS if METHODS[name].control],
    }
    wanted = [name for part in names.split(",") if (name := part.strip().lower())]
    unknown = [name for name in wanted if name not in METHODS and name not in groups]
    if unknown or not wanted:
        got = ", ".join(map(repr, unknown)) or repr(names)
        raise ValueError(
            f"method must be a list of known methods, got {got}. "
            f"{closest(unknown, METHODS)}Known are: {', '.join(METHODS)}, all for all "
            "but the controls, and controls for these."
        )
    found = [one for name in wanted for one in groups.get(name, [name])]
    return list(dict.fromkeys(found))
