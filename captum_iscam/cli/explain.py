"""`captum-iscam explain`: any classifier, any images."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_iscam._utils.files import sha256
from captum_iscam._utils.images import UnreadableImageError, read_image
from captum_iscam._utils.progress import progress
from captum_iscam._utils.user_code import user_code
from captum_iscam._utils.validation import as_device
from captum_iscam.cli import record
from captum_iscam.cli.gallery.page import write_page
from captum_iscam.cli.images import find_images
from captum_iscam.cli.output import Names, output_folder, print_line
from captum_iscam.cli.plugins import load_plugins
from captum_iscam.cli.record import Explanation, Target, delta_text
from captum_iscam.cli.results import Explained, Look, write_results
from captum_iscam.layers import check_spatial, default_layer, find_layer
from captum_iscam.methods import METHODS, Options, find_methods
from captum_iscam.networks import Network, load_classifier
from captum_iscam.networks.predictions import Prediction, predict
from captum_iscam.networks.preprocessing import sentence
from captum_iscam.visualization import colours
from captum_iscam.visualization.photograph import crop_frame


@dataclass(frozen=True)
class _Job:
    """Everything that all images share."""

    network: Network
    layer_name: str
    layer: nn.Module
    layer_given: bool
    targets: TargetChoice
    methods: list[str]
    options: Options
    device: torch.device
    autocast: bool
    out: Path
    plugins: dict[str, str | None]
    look: Look

    @property
    def described(self) -> dict[str, Any]:
        """What the records of all images say."""
        network = self.network
        return {
            "model": network.name,
            "layer": self.layer_name,
            "layer_given": self.layer_given,
            "source": network.source,
            "weights": {"name": network.weights, "sha256": network.sha256},
            "preprocessing": network.preprocessing,
            "device": str(self.device),
            "dtype": "bfloat16 autocast" if self.autocast else "float32",
            "plugins": self.plugins,
        }


def run(args: argparse.Namespace) -> int:
    """Explains every image; returns 1 if one of them failed, else 0."""
    images = find_images(args.images, args.recursive)
    job = _prepare(args)
    taken = "given" if job.layer_given else "the last with a spatial output"
    print_line(
        f"{job.network.name}, weights {job.network.weights}, layer {job.layer_name} "
        f"({taken}), on {job.device}",
        sys.stdout,
    )
    print_line(f"images: {sentence(job.network.preprocessing)}", sys.stdout)
    if job.targets.note:
        print_line(job.targets.note, sys.stderr)
    with output_folder(job.out) as existing:
        try:
            failed = _explain_all(job, images, Names(existing))
        finally:
            page = write_page(job.out, job.look.cmap)
    if failed < len(images):
        which = "The other results" if failed else "All results"
        print_line(f"{which} are in {job.out}. Open {page} in a browser.", sys.stdout)
    if failed:
        print_line(f"{failed} of {len(images)} images failed.", sys.stderr)
    return 1 if failed else 0


def _explain_all(job: _Job, files: Sequence[Path], names: Names) -> int:
    """Explains every image; returns how many failed."""
    failed = 0
    of_each = job.targets.count * len(job.methods)
    with progress(len(files) * of_each, "map") as bar:
        for number, file in enumerate(files, 1):
            message = _explain_or_fail(job, file, names, bar.update)
            if message:
                failed += 1
                print_line(message, sys.stderr)
            # An image that failed has left some of its maps out.
            bar.update(number * of_each - bar.n)
    return failed


def _explain_or_fail(
    job: _Job, file: Path, names: Names, done: Callable[[int], object]
) -> str | None:
    """Explains an image; returns why it could not be explained, if so."""
    try:
        print_line(_explain_one(job, file, names, done), sys.stdout)
    except UnreadableImageError as error:
        return f"{file}: cannot be read: {error}"
    except (ValueError, RuntimeError) as error:
        return f"{file}: cannot be explained: {error}"
    except OSError:  # the disk is full, for example
        raise
    # The network and its transform are the user's code, which may raise anything.
    except Exception as error:  # noqa: BLE001 - the next image may be explained
        return f"{file}: cannot be explained: {type(error).__name__}: {error}"
    return None


def choose_device(name: str) -> torch.device:
    """Returns the device of that name; "auto" is a GPU where there is one.

    Raises:
        ValueError: If the device is unknown or missing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return as_device(name, "Use auto or cpu.")


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what is given of classes and preprocessing, for `load_classifier`."""
    names = ("classes", "size", "mean", "std")
    return {name: getattr(args, name) for name in names}


def check_score(score: str | None, network: Network) -> None:
    """Raises for a softmax over a single output, which is 1 whatever the image.

    Raises:
        ValueError: If the network has one output, and the score is softmax or None.
    """
    if len(network.classes) == 1 and score in (None, "softmax"):
        raise ValueError(
            "score must be sigmoid or identity for a network with one output, got "
            f"softmax for {network.name}. Pass --score sigmoid for a logit, or --score "
            "identity for a regression."
        )


def _prepare(args: argparse.Namespace) -> _Job:
    plugins = load_plugins(args.plugin)
    methods = find_methods(args.method)
    device = choose_device(args.device)
    network = load_classifier(args.model, args.weights, device, **network_options(args))
    check_score(args.score, network)
    example = network.example().to(device)
    name: str | None = args.layer
    if name is None:
        name, layer = default_layer(network.model, example)
    else:
        layer = find_layer(network.model, name)
        check_spatial(network.model, example, name)
    options = Options(
        n_samples=args.n_samples,
        seed=args.seed,
        internal_batch_size=args.batch_size,
        n_masks=args.n_masks,
        stdevs=args.stdevs,
        screening=args.screening,
        n_steps=args.n_steps,
        score=args.score,
    )
    return _Job(
        network,
        name,
        layer,
        args.layer is not None,
        TargetChoice(args.target, network.classes),
        methods,
        options,
        device,
        args.autocast,
        args.out,
        plugins,
        _look(args, network),
    )


def _look(args: argparse.Namespace, network: Network) -> Look:
    """Returns how results are drawn, or raises for an unknown colour map."""
    if args.cmap:
        colours(args.cmap)
    original = args.original
    if original and not _is_known(network.preprocessing):
        print_line(
            "--original is ignored: how this network's transform cuts its input out of "
            "a photograph is not known.",
            sys.stderr,
        )
        original = False
    return Look(
        format=args.format,
        dpi=args.dpi,
        cmap=args.cmap,
        alpha=args.alpha,
        separate=args.panels == "separate",
        original=original,
    )


def _is_known(preprocessing: dict[str, Any] | None) -> bool:
    """Whether a map can be brought back onto the original photograph."""
    try:
        crop_frame((1, 1), preprocessing)
    except ValueError:
        return False
    return True


def _explain_one(
    job: _Job, file: Path, names: Names, done: Callable[[int], object]
) -> str:
    """Writes the results of one image; returns a line about them for the terminal."""
    network = job.network
    image = read_image(file)
    digest = sha256(file)
    autocast = torch.autocast(job.device.type, torch.bfloat16, enabled=job.autocast)
    with user_code():
        inputs = network.transform(image).unsqueeze(0).to(job.device)
    with autocast, user_code():
        with torch.no_grad():
            logits = network.model(inputs)[0]
        score = job.options.score or "softmax"
        targets = job.targets.of(predict(logits, score))
        explanations = record.explain(
            network.model,
            job.layer,
            inputs,
            targets,
            job.methods,
            job.options,
            done,
        )
    about = {
        "image": str(file),
        "image_sha256": digest,
        "image_size": list(image.size),
        "input_shape": list(inputs.shape[1:]),
        **job.described,
        "score": score,
    }
    usual = network.preprocessing or {}
    mean, std = usual.get("mean"), usual.get("std")
    explained = Explained(inputs[0], mean, std, image, network.preprocessing)
    folder = job.out / names.free(file.stem, digest)
    written = write_results(folder, explained, explanations, about, job.look)
    # One call of a method makes the maps of all targets, so one target is enough.
    calls = [e for e in explanations if e.target == targets[0]]
    class_names = ", ".join(target.class_name for target in targets)
    for e in calls:
        for warning in e.warnings:
            where = f"{file}, {METHODS[e.method].title}, {class_names}"
            print_line(f"{where}: {warning}", sys.stderr)
    said = [f"{t.class_name} ({t.index}) {t.value(score)}" for t in targets]
    said += _deltas(explanations)
    seconds = sum(e.seconds for e in calls)
    return f"{file}: {', '.join(said)}, {seconds:.1f} s -> {written}"


def _deltas(explanations: Sequence[Explanation]) -> Iterator[str]:
    """Yields the largest delta of each method, unless all of its maps are exact."""
    deltas: dict[str, list[float]] = {}
    for e in explanations:
        if e.delta:
            deltas.setdefault(e.method, []).append(e.delta)
    several = "largest " * (len({e.target for e in explanations}) > 1)
    for method, found in deltas.items():
        known = [delta for delta in found if isfinite(delta)]
        text = f"{METHODS[method].title} {several}{delta_text(max(known or found))}"
        unknown = len(found) - len(known)
        yield text + f" (unknown for {unknown} of them)" * (0 < unknown < len(found))


class TargetChoice:
    """The value of `--target`, from which the targets of each image follow.

    A number is an index, and "topN" a count, also where a class has that name.

    Args:
        wanted (str or None): A class name, an index, or "topN" for the N most probable;
            None is "top1".
        classes (Sequence[str]): The names of all classes.

    Attributes:
        note (str): What to print where a class has such a name. Default: "", no class

    Raises:
        ValueError: If there is no such class, or several of that name.
    """

    def __init__(self, wanted: str | None, classes: Sequence[str]) -> None:
        self._classes = classes
        text = (wanted or "top1").strip()
        top = re.fullmatch(r"top-?(\d+)", text, re.IGNORECASE)
        self._top = int(top[1]) if top else 0
        is_index = re.fullmatch(r"-?\d+", text) is not None
        self._index = -1 if top else self._at(text) if is_index else self._find(text)
        if top and not 1 <= self._top <= len(classes):
            raise ValueError(
                f"target must be top1 to top{len(classes)}, got {text!r}. "
                "It counts the most probable classes."
            )
        self.count = self._top or 1
        others = [i for i in self._named(text) if i != self._index]
        self.note = ""
        if others and (top or is_index):
            what = f"the {self._top} most probable classes" if top else "an index"
            self.note = (
                f"--target {text} is {what}. The class named {text!r} has the index "
                f"{_listed(others)}."
            )

    def of(self, prediction: Prediction) -> list[Target]:
        """Returns the targets for an image with this prediction."""
        indices = prediction.ranked[: self._top] if self._top else [self._index]
        return [
            Target(index, self._classes[index], float(prediction.scores[index]))
            for index in indices
        ]

    def _at(self, text: str) -> int:
        count = len(self._classes)
        if not 0 <= int(text) < count:
            named = self._named(text)
            repair = f"The class of that name has the index {_listed(named)}."
            raise ValueError(
                f"target must be an index from 0 to {count - 1}, got {text}. "
                + (repair if named else f"The model knows {count} classes.")
            )
        return int(text)

    def _named(self, text: str) -> list[int]:
        """Returns the indices of a name, in any letter case where none has its own."""
        for kind in (str, str.casefold):
            plain = kind(text)
            found = [i for i, n in enumerate(self._classes) if kind(n.strip()) == plain]
            if found:
                return found
        return []

    def _find(self, text: str) -> int:
        found = self._named(text)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"target must be one class, got {text!r}, the name of the indices "
                f"{_listed(found)}. Pass one of them."
            )
        classes = self._classes
        folded = [name.casefold() for name in classes]
        alike = difflib.get_close_matches(text.casefold(), folded, n=5)
        near = [i for i, name in enumerate(folded) if text.casefold() in name][:10]
        near += [folded.index(name) for name in alike]
        named = near or range(min(5, len(classes)))
        listed = ", ".join(f"{classes[i]} ({i})" for i in dict.fromkeys(named))
        raise ValueError(
            f"target must be a class, an index or topN, got {text!r}. "
            f"{'Close to it' if near else 'Classes begin with'}: {listed}."
        )


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices))
