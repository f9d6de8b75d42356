"""Makes the pictures of the README and the documentation.

    python docs/images/make.py [--weights FILE] [--only NAME,...]

Needs scikit-image, which carries the two photographs. Without `--weights` torchvision
downloads its own weights of SqueezeNet 1.1. All pictures take about half an hour on one
core; a picture's name is that of its function.
"""

import argparse
from pathlib import Path

import settings
import skimage.data
import torch
from PIL import Image

from captum_iscam.attr import LayerIntegratedScoreCAM
from captum_iscam.demo import CLASSES, load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS, Options
from captum_iscam.networks import load_classifier
from captum_iscam.visualization import Row, display_image, visualize_rows

HERE = Path(__file__).parent
SHOWN = ("is-cam", "ss-cam", "score-cam", "grad-cam", "integrated-gradients")


def as_picture(inputs, network):
    """The picture as the network saw it, cropped, with the normalisation undone."""
    mean, std = network.preprocessing["mean"], network.preprocessing["std"]
    shown = display_image(inputs[0], mean, std)
    return torch.as_tensor(shown).permute(2, 0, 1)


def photographs_and_targets(network):
    for photograph in (skimage.data.chelsea(), skimage.data.coffee()):
        inputs = network.transform(Image.fromarray(photograph)).unsqueeze(0)
        with torch.no_grad():
            probabilities = network.model(inputs).softmax(1)[0]
        target = int(probabilities.argmax())
        title = f"{network.classes[target]}, {probabilities[target]:.0%}"
        yield title, inputs, target


def by_name(model, layer, inputs, target, options):
    return {
        METHODS[name].title: METHODS[name].attribute(
            model, layer, inputs, target, options
        )
        for name in SHOWN
    }


def photographs(weights):
    """The README's first picture: five methods on two photographs."""
    network = load_classifier("squeezenet1_1", weights)
    # Two samples suffice to show what the authors' noise does to this network.
    options = Options(n_samples=2)
    rows = []
    for title, inputs, target in photographs_and_targets(network):
        model = network.model
        maps = by_name(model, model.features, inputs, target, options)
        rows.append(Row(title, as_picture(inputs, network), maps))
    return with_large_titles(visualize_rows(rows))


def with_large_titles(figure):
    """Six panels are as narrow as a page, so their titles must be read at half size."""
    for panel in figure.axes:
        panel.title.set_fontsize(15)
    return figure


def scene(_):
    """The README's second picture: five methods on the objects of one scene."""
    network, drawn = load_network(), load_scenes()[1]
    inputs = preprocess(drawn.image)
    rows = [
        Row(
            CLASSES[label],
            drawn.image,
            by_name(network, network.features, inputs, label, Options()),
        )
        for label in drawn.labels
    ]
    return with_large_titles(visualize_rows(rows))


def ten_lines(_):
    """What the README's ten lines draw."""
    network, drawn = load_network(), load_scenes()[0]
    explain = LayerIntegratedScoreCAM(network, network.features)
    inputs = preprocess(drawn.image)
    maps = {CLASSES[c]: explain.attribute(inputs, target=c) for c in drawn.labels}
    return visualize_rows([Row("input", drawn.image, maps)])


def method(name):
    """A picture of a method's page: its settings on two photographs and a scene."""

    def draw(weights):
        network = load_classifier("squeezenet1_1", weights)
        rows = []
        for title, inputs, target in photographs_and_targets(network):
            maps = settings.maps_of(name, network.model, inputs, target)
            rows.append(Row(title, as_picture(inputs, network), maps))
        model, drawn = load_network(), load_scenes()[4]
        inputs, target = preprocess(drawn.image), drawn.labels[1]
        maps = settings.maps_of(name, model, inputs, target)
        rows.append(Row(CLASSES[target], drawn.image, maps))
        return visualize_rows(rows)

    return draw


PICTURES = {
    "scene": scene,
    "ten_lines": ten_lines,
    "photographs": photographs,
    **{name: method(name) for name in settings.SETTINGS},
}


def draw(description, pictures, save):
    """Makes the pictures that the command line names, and saves each."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--only", default=",".join(pictures))
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        save(name, pictures[name](arguments.weights))
        print(name, flush=True)


def save(name, figure):
    figure.savefig(HERE / f"{name}.png", dpi=100, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    draw(__doc__, PICTURES, save)
