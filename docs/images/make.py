"""Makes the pictures of the README: `python docs/images/make.py [--weights FILE]`.

Needs scikit-image, which carries the two photographs. Without `--weights` torchvision
downloads its own weights of SqueezeNet 1.1.
"""

import argparse
from pathlib import Path

import skimage.data
import torch
from PIL import Image

from captum_iscam.demo import CLASSES, load_network, load_scenes, preprocess
from captum_iscam.layers import default_layer
from captum_iscam.methods import METHODS, Options
from captum_iscam.networks import load_classifier
from captum_iscam.visualization import Row, visualize_rows

HERE = Path(__file__).parent
SHOWN = ("is-cam", "score-cam", "ss-cam", "integrated-grad-cam", "grad-cam")


def maps_of(model, layer, inputs, target, options):
    return {
        METHODS[name].title: METHODS[name].attribute(
            model, layer, inputs, target, options
        )
        for name in SHOWN
    }


def photographs(weights):
    network = load_classifier("squeezenet1_1", weights)
    mean, std = network.preprocessing["mean"], network.preprocessing["std"]
    rows = []
    for picture in (skimage.data.chelsea(), skimage.data.coffee()):
        inputs = network.transform(Image.fromarray(picture)).unsqueeze(0)
        _, layer = default_layer(network.model, inputs)
        with torch.no_grad():
            probabilities = network.model(inputs).softmax(1)[0]
        target = int(probabilities.argmax())
        title = f"{network.classes[target]}, {probabilities[target]:.0%}"
        # Two samples suffice to show what the authors' noise does to this network.
        maps = maps_of(network.model, layer, inputs, target, Options(n_samples=2))
        rows.append(Row(title, inputs[0], maps))
    return visualize_rows(rows, mean=mean, std=std)


def scene():
    network, drawn = load_network(), load_scenes()[1]
    inputs = preprocess(drawn.image)
    rows = [
        Row(
            CLASSES[label],
            drawn.image,
            maps_of(network, network.features, inputs, label, Options()),
        )
        for label in drawn.labels
    ]
    return visualize_rows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="DEFAULT")
    weights = parser.parse_args().weights
    scene().savefig(HERE / "scene.png", dpi=80)
    photographs(weights).savefig(HERE / "photographs.png", dpi=80)


if __name__ == "__main__":
    main()
