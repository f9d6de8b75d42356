"""Networks of a bearable size that take the places of those named in the docs."""

import torch
from reference.small_classifiers import HUGGING_FACE
from reference.transformers import small_swin, small_vit
from torch import nn

from captum_iscam.networks import Network
from captum_iscam.networks.network import LogitsOnly


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


def small_hugging_face_vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**HUGGING_FACE["ViT"][2], num_labels=4)
    return LogitsOnly(ViTForImageClassification(config))


class SmallDetector(nn.Module):
    """Two boxes and their scores, in a form that is not torchvision's."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, stride=4)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        halves = nn.functional.adaptive_avg_pool2d(self.backbone(images).relu(), (1, 2))
        scores = self.head(halves.flatten(2).mT).softmax(2)
        boxes = torch.tensor([[0.0, 0.0, 16.0, 32.0], [16.0, 0.0, 32.0, 32.0]])
        return boxes.expand(len(images), -1, -1), scores


SMALL = {
    "hf:google/vit-base-patch16-224": small_hugging_face_vit,
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


def create_small_timm(name, pretrained):
    """Stands in for `timm.create_model`."""
    from timm.models import create_model

    assert pretrained
    return create_model(name, depth=2, embed_dim=24, num_heads=2, num_classes=4)


def small_densenet(**options):
    """Stands in for MONAI's `DenseNet121`."""
    from monai.networks.nets import DenseNet

    # Screening needs 128 channels or more.
    sizes = {"init_features": 32, "growth_rate": 72, "bn_size": 1}
    return DenseNet(block_config=(1, 1, 1, 1), **sizes, **options)
