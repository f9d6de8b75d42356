"""torchvision's transformers with few and small layers."""

from torch import nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer

SIZES = {"vit": 32, "swin": 32, "maxvit": 64}


def small_vit():
    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero
    return model.eval()


def small_swin():
    return SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=3).eval()


def small_maxvit():
    model = MaxVit(
        input_size=(64, 64),
        stem_channels=8,
        partition_size=2,
        block_channels=[8, 8, 8, 16],
        block_layers=[1, 1, 1, 1],
        head_dim=4,
        stochastic_depth_prob=0.0,
        num_classes=3,
    )
    return model.eval()


MODELS = {"vit": small_vit, "swin": small_swin, "maxvit": small_maxvit}
