"""Networks of a bearable size that take the places of those named in the docs."""

import torch
from reference.transformers import small_swin, small_vit
from torch import nn

from captum_iscam.networks import Network


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


def get_small_model(name, weights, **options):
    """Stands in for `torchvision.models.get_model`."""
    assert weights == "DEFAULT"
    return SMALL[name](**options)


def load_small_classifier(name):
    """Stands in for `captum_iscam.networks.load_classifier`."""

    def transform(picture):
        pixels = torch.tensor(list(picture.tobytes()), dtype=torch.float32) / 255
        image = pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)
        return nn.functional.interpolate(image[None], (32, 32))[0]

    model = SMALL[name]().eval()
    said = {"mean": [0.0] * 3, "std": [1.0] * 3}
    return Network(name, model, transform, said, ("a", "b", "c", "d"), "small", "")


def small_densenet(**options):
    """Stands in for MONAI's `DenseNet121`."""
    from monai.networks.nets import DenseNet

    # Screening needs 128 channels or more.
    sizes = {"init_features": 32, "growth_rate": 72, "bn_size": 1}
    return DenseNet(block_config=(1, 1, 1, 1), **sizes, **options)
