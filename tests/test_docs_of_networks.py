"""The examples of two pages run as they stand, on networks of a bearable size."""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from reference.transformers import small_swin, small_vit
from torch import nn

DOCS = Path(__file__).parents[1] / "docs"


def small_resnet():
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    model.layer4 = nn.Sequential(nn.Conv2d(256, 8, 1), nn.ReLU())
    model.fc = nn.Linear(8, 4)
    return model


class SmallFCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"layer4": nn.Conv2d(3, 4, 3, stride=4)})
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        small = self.head(self.backbone.layer4(x).relu())
        return {"out": nn.functional.interpolate(small, x.shape[2:])}


def small_faster_rcnn(box_score_thresh):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    backbone = nn.Sequential()
    backbone.add_module("body", nn.Sequential())
    backbone.body.add_module("layer4", nn.Conv2d(3, 4, 3, stride=4))
    backbone.out_channels = 4
    return FasterRCNN(
        backbone,
        num_classes=3,
        min_size=32,
        max_size=32,
        rpn_anchor_generator=AnchorGenerator(((8, 16),), ((1.0,),)),
        box_score_thresh=box_score_thresh,
    )


SMALL = {
    "resnet18": small_resnet,
    "vit_b_16": small_vit,
    "swin_t": small_swin,
    "fcn_resnet50": SmallFCN,
    "fasterrcnn_resnet50_fpn": small_faster_rcnn,
}


def examples(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.filterwarnings("ignore:The map is zero", "ignore:The noise")
def test_every_example_of_networks_runs(monkeypatch):
    def get_model(name, weights, **options):
        assert weights == "DEFAULT"
        return SMALL[name](**options)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    monkeypatch.setattr(torch, "compile", lambda model: model)  # needs a C++ compiler
    space = {"torch": torch, "images": torch.rand(2, 3, 32, 32)}
    blocks = examples("networks.md")

    assert len(blocks) > 8
    for block in blocks:
        exec(compile(block, "networks.md", "exec"), space)
        out = space["attributions"]
        out = out if isinstance(out, torch.Tensor) else out[0]
        assert torch.isfinite(out).all()


@pytest.mark.filterwarnings("ignore:The map is zero", "ignore:The noise")
def test_every_example_of_comparison_methods_runs():
    space = {}
    for block in examples("comparison_methods.md"):
        exec(compile(block, "comparison_methods.md", "exec"), space)

    assert len(space["maps"]) == 2
    assert space["one"].shape == space["image"][:, :1].shape


@pytest.mark.parametrize("page", ["networks.md", "comparison_methods.md"])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text())

    assert [at for at in links if "://" not in at and not (DOCS / at).exists()] == []


def test_the_layers_in_the_table_are_the_ones_of_the_families():
    from test_families import LAYERS

    text = (DOCS / "networks.md").read_text()

    for family, layer in LAYERS.items():
        if family != "vit":  # the small one has fewer blocks
            assert f"`{layer}`" in text, family
