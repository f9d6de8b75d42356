"""One line from a model to a `forward_func` for another question than "which class?".

Each function takes a model and returns a callable with one score per example, which
goes where the model would: `LayerScoreCAM(segmentation(model, 8, region), layer,
score="identity")`. The scores are final, so `score="identity"` is the one to pass, and
`target` stays None. `contrast` alone keeps the classes, so there `target` names one.
"""

from captum_iscam.targets.contrast import contrast, similar_classes
from captum_iscam.targets.detection import detection
from captum_iscam.targets.model_score import ModelScore
from captum_iscam.targets.segmentation import segmentation
from captum_iscam.targets.vectors import multi_label, regression, similarity

__all__ = [
    "ModelScore",
    "contrast",
    "detection",
    "multi_label",
    "regression",
    "segmentation",
    "similar_classes",
    "similarity",
]
