"""What a network says of an image: the score of each class, and their order."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from captum_iscam._utils.scores import score_transform, warn_of_score


class Prediction(NamedTuple):
    """The scores of an image.

    Attributes:
        scores (Tensor): Those of all classes, `(C,)`.
        ranked (list[int]): The indices of the classes, the most probable first.
    """

    scores: Tensor
    ranked: list[int]


def predict(outputs: Tensor, score: str | None) -> Prediction:
    """Returns the scores of the classes, and their order.

    A warning says where the outputs already are probabilities, which another softmax
    or sigmoid would flatten.

    Args:
        outputs (Tensor): What the network gives for an image, `(C,)`.
        score (str or None): "softmax", "sigmoid" or "identity"; None is "softmax".

    Examples::

        >>> import torch
        >>> predict(torch.tensor([20.0, 30.0]), "sigmoid")
        Prediction(scores=tensor([1., 1.]), ranked=[1, 0])
    """
    outputs = outputs.float().cpu()
    score = score or "softmax"
    warn_of_score(score, outputs[None], [])
    # By the outputs: the probabilities of several classes may be 1 but for rounding.
    ranked = outputs.argsort(descending=True, stable=True).tolist()
    return Prediction(score_transform(score)(outputs[None])[0], ranked)
