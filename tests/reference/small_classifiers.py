"""Small classifiers of timm and Hugging Face with random weights, by family."""

import warnings

import torch

TIMM = {
    "resnet10t": (64, "layer4"),
    "convnext_atto": (64, "stages"),
    "efficientnet_lite0": (64, "bn2"),
    "mobilenetv3_small_050": (64, "blocks"),
    "vit_tiny_patch16_224": (48, "blocks.11.norm1"),
    "deit_tiny_patch16_224": (48, "blocks.11.norm1"),
    "deit_tiny_distilled_patch16_224": (48, "blocks.11.norm1"),
    "swin_tiny_patch4_window7_224": (64, "norm"),
    "swinv2_tiny_window8_256": (64, "norm"),
}
"""Size of the image and the default layer."""

_TOKENS = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
HUGGING_FACE = {
    "ResNet": (
        64,
        "resnet.encoder.stages.1",
        {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]},
    ),
    "ConvNext": (
        64,
        "convnext.encoder.stages.3",
        {"hidden_sizes": [8, 8, 12, 16], "depths": [1] * 4},
    ),
    "EfficientNet": (
        64,
        "efficientnet.encoder.top_activation",
        {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320},
    ),
    "MobileNetV2": (64, "mobilenet_v2.conv_1x1", {"depth_multiplier": 0.35}),
    "ViT": (32, "vit.layers.1.layernorm_before", _TOKENS),
    "DeiT": (32, "deit.layers.1.layernorm_before", _TOKENS),
    "Swin": (
        64,
        "swin.layernorm",
        {
            "embed_dim": 12,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 4,
            "image_size": 64,
        },
    ),
}
"""Size of the image, the default layer and the configuration."""

HUGGING_FACE["Swinv2"] = (64, "swinv2.layernorm", HUGGING_FACE["Swin"][2])


def timm_weights(folder, name, classes=4):
    """Writes random weights of a model of timm; returns the file."""
    import timm

    torch.manual_seed(0)
    size = TIMM[name][0]
    fixed = timm.models.get_pretrained_cfg(name).fixed_input_size
    options = {"img_size": size} if fixed else {}
    model = timm.create_model(name, num_classes=classes, **options)
    file = folder / "random.pt"
    torch.save(model.state_dict(), file)
    return file


def hugging_face_model(family, classes=4, **options):
    import transformers

    torch.manual_seed(0)
    settings = {**HUGGING_FACE[family][2], **options}
    configuration = getattr(transformers, f"{family}Config")(
        num_labels=classes, **settings
    )
    kind = getattr(transformers, f"{family}ForImageClassification")
    return kind(configuration).eval()


def hugging_face_folder(folder, family, classes=4, processor=True, **options):
    """Writes a model and its image processor; returns the folder."""
    import transformers

    model = hugging_face_model(family, classes, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_quietly(model, folder)
        if processor:
            size = HUGGING_FACE[family][0]
            name = "ConvNext" if family == "ResNet" else family
            name = "ViT" if family.startswith("Swin") else name
            made = getattr(transformers, f"{name}ImageProcessor")(**sizes(name, size))
            made.save_pretrained(folder)
    return folder


def sizes(name, size):
    whole = {"height": size, "width": size}
    if name == "ConvNext":
        return {"size": {"shortest_edge": size}}
    if name == "MobileNetV2":
        return {"size": {"shortest_edge": size + 8}, "crop_size": whole}
    if name == "DeiT":
        return {"size": {"height": size + 4, "width": size + 4}, "crop_size": whole}
    return {"size": whole}


def save_quietly(model, folder):
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        logging.enable_progress_bar()
