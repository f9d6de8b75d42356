"""`captum-iscam demo`: the bundled network and scenes, where the objects are known."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_iscam._utils.files import sha256, write_whole
from captum_iscam._utils.progress import progress
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.cli import record
from captum_iscam.cli.gallery.page import write_page
from captum_iscam.cli.output import Names, output_folder, print_line
from captum_iscam.cli.results import Explained, write_results
from captum_iscam.demo import CLASSES, Scene, load_network, load_scenes, preprocess
from captum_iscam.demo.network import WEIGHTS
from captum_iscam.methods import METHODS, Options
from captum_iscam.visualization import upsample

# The demo takes less than a minute on two cores, so it neither runs every method nor
# takes the 35 samples of SS-CAM.
SHOWN = (
    "is-cam",
    "ss-cam",
    "score-cam",
    "integrated-grad-cam",
    "grad-cam",
    "integrated-gradients",
)
_N_SAMPLES = 4


@dataclass(frozen=True)
class Finding:
    """How well one map finds its object: a line of `table.csv`."""

    image: str
    class_name: str
    method: str
    probability: float
    kept: float
    overlap: float
    on_object: bool
    seconds: float
    passes: float


def run(args: argparse.Namespace) -> int:
    """Explains every object of the bundled scenes by the methods in `SHOWN`."""
    with output_folder(args.out) as existing:
        try:
            tables = _explain_scenes(args.out, args.seed, Names(existing))
        finally:
            page = write_page(args.out)
    tqdm.write(f"\n{tables}\n\n{_LEGEND}", file=sys.stdout)
    print_line(f"All results are in {args.out}. Open {page} in a browser.", sys.stdout)
    return 0


def _explain_scenes(out: Path, seed: int, names: Names) -> str:
    """Writes all files; returns the tables."""
    options = Options(_N_SAMPLES, seed)
    network, scenes = load_network(), load_scenes()
    objects = sum(len(scene.labels) for scene in scenes)
    findings: list[Finding] = []
    with progress(objects * len(SHOWN), "map") as bar:
        for number, scene in enumerate(scenes):
            name = names.free(f"scene_{number}")
            findings += _explain_scene(network, scene, name, out, options, bar.update)
            objects_of = ", ".join(CLASSES[label] for label in scene.labels)
            print_line(f"{name}: {objects_of} -> {out / name}", sys.stdout)
    caption = "Overlap of each map with its object:"
    tables = f"{caption}\n\n{_by_object(findings)}\n\n{_by_method(findings)}"
    for suffix, text in ((".md", f"{tables}\n"), (".csv", _as_csv(findings))):
        write_whole(_free_table(out, suffix, text), text.encode())
    return tables


def _free_table(out: Path, suffix: str, text: str) -> Path:
    """Returns a file that does not exist yet, or has a table of an earlier run."""
    first_line = text.splitlines()[0].encode()
    file, number = out / f"table{suffix}", 1
    while file.exists() and not _starts_with(file, first_line):
        number += 1
        file = out / f"table-{number}{suffix}"
    return file


def _starts_with(file: Path, start: bytes) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(start)) == start


_LEGEND = f"""\
probability  probability of the class for the whole image
kept         probability of the class for the image masked by the map
overlap      share of the map's sum that lies on the true object
on object    number of maps whose maximum lies on the true object
seconds      seconds per map: one call explains all objects of an image
passes       forward passes per map
SS-CAM runs with {_N_SAMPLES} samples, every other setting is the default."""


def _explain_scene(
    network: nn.Module,
    scene: Scene,
    name: str,
    out: Path,
    options: Options,
    done: Callable[[int], object],
) -> list[Finding]:
    """Writes the files of one scene; returns how well its maps find the objects."""
    inputs = preprocess(scene.image)
    probabilities = _probabilities(network, inputs)
    targets = [
        record.Target(label, CLASSES[label], float(probabilities[label]))
        for label in scene.labels
    ]
    layer = network.get_submodule("features")
    explanations = record.explain(network, layer, inputs, targets, SHOWN, options, done)
    with resources.as_file(
        resources.files("captum_iscam.demo") / "data" / WEIGHTS
    ) as file:
        weights = {"name": WEIGHTS, "sha256": sha256(file)}
    about = {
        "image": name,
        "model": type(network).__name__,
        "layer": "features",
        "weights": weights,
        "device": "cpu",
    }
    write_results(out / name, Explained(scene.image), explanations, about)
    masks = dict(zip(scene.labels, scene.masks, strict=True))
    return [
        _measure(network, inputs, masks[e.target.index], e, name) for e in explanations
    ]


def _measure(
    network: nn.Module,
    inputs: Tensor,
    mask: Tensor,
    explanation: record.Explanation,
    image: str,
) -> Finding:
    enlarged = upsample(explanation.attributions, inputs)
    highest = enlarged.max()
    weights = enlarged / highest if highest > 0 else enlarged
    index = explanation.target.index
    on_object = float(enlarged[0, 0][mask].sum())
    together = explanation.targets_explained_together
    return Finding(
        image,
        explanation.target.class_name,
        METHODS[explanation.method].title,
        explanation.target.probability,
        # Masked pixels become 0, a uniform grey without any object.
        float(_probabilities(network, inputs * weights)[index]),
        on_object / float(enlarged.sum()) if highest > 0 else 0.0,
        bool(highest > 0) and bool(mask.flatten()[enlarged.argmax()]),
        explanation.seconds / together,
        explanation.forward_passes / together,
    )


def _probabilities(network: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network(inputs)
    return logits[0].softmax(0)


def _by_object(findings: Sequence[Finding]) -> str:
    """A line per object: its probability, and the overlap of each method's map."""
    methods = list(dict.fromkeys(f.method for f in findings))
    lines: dict[tuple[str, str], list[str]] = {}
    for f in findings:
        start = [f.image, f.class_name, f"{f.probability:.3f}"]
        lines.setdefault((f.image, f.class_name), start).append(f"{f.overlap:.2f}")
    header = ["image", "class", "probability", *methods]
    return markdown_table(header, lines.values(), left=None, padded=True)


def _by_method(findings: Sequence[Finding]) -> str:
    """A line per method: means over all objects."""
    lines = []
    for method in dict.fromkeys(f.method for f in findings):
        of = [f for f in findings if f.method == method]
        count = len(of)
        lines.append(
            [
                method,
                f"{sum(f.probability for f in of) / count:.3f}",
                f"{sum(f.kept for f in of) / count:.3f}",
                f"{sum(f.overlap for f in of) / count:.3f}",
                f"{sum(f.on_object for f in of)} of {count}",
                f"{sum(f.seconds for f in of) / count:.2f}",
                f"{sum(f.passes for f in of) / count:.0f}",
            ]
        )
    header = ["mean by method", "probability", "kept", "overlap", "on object"]
    header += ["seconds", "passes"]
    return markdown_table(header, lines, left=None, padded=True)


def _as_csv(findings: Sequence[Finding]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(Finding.__dataclass_fields__)
    for f in findings:
        writer.writerow(vars(f).values())
    return stream.getvalue()
