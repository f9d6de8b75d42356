"""IS-CAM: Score-CAM integrated while the mask fades in."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._captum import log_usage
from captum_iscam._scoring import Baselines, Target
from captum_iscam.attr._base import Attributions, LayerScoreMethod
from captum_iscam.attr._masking import Exposure
from captum_iscam.attr._path import RECURRENCE, path_points


class LayerIntegratedScoreCAM(LayerScoreMethod):
    r"""IS-CAM, Integrated Score-CAM: the score averaged while the mask fades in.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = \int_0^1 \big[s(b + t\, M_k \odot (x - b)) - s(b)\big]\, dt
            \approx \sum_i w_i \big[s(b + t_i M_k \odot (x - b)) - s(b)\big]

    The letters are those of :class:`LayerScoreCAM`. Where Score-CAM asks for the
    confidence at full strength only, where it is often saturated, IS-CAM asks all the
    way from the baseline. With `method="riemann_right"` and `n_steps=1` it is
    Score-CAM. The cost is `n_steps` forward passes per channel that is not constant;
    a step of strength 0 costs none.

    Source: R. Naidu, A. Ghosh, Y. Maurya, S. R. Nayak K, S. S. Kundu, "IS-CAM:
    Integrated Score-CAM for axiomatic-based explanations", 2020,
    https://arxiv.org/abs/2010.03023. The readings of it, and how to get each:

    - the integral its name and its averaged code mean: the default; the authors' code
      of 2020-07-31 is `method="riemann_right", n_steps=10` without the term `s(b)`;
    - the recurrence as printed, `M_{i+1} = M_i + M * i / N` from `M_1 = 0`:
      `method="recurrence"`, strengths `i (i - 1) / 2N`, which for N = 10 show the model
      up to 4.5 times the image and approximate no integral over [0, 1].

    Args:
        forward_func (Callable): See :class:`LayerScoreCAM`.
        layer (torch.nn.Module or list[torch.nn.Module]): See :class:`LayerScoreCAM`.
        device_ids (list[int], optional): See :class:`LayerScoreCAM`.
        score (str or Callable, optional): See :class:`LayerScoreCAM`.
            Default: "softmax"
        reshape_transform (Callable, optional): See :class:`LayerScoreCAM`.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        >>> model = nn.Sequential(features, nn.Flatten(), nn.Linear(4 * 49, 5)).eval()
        >>> explain = LayerIntegratedScoreCAM(model, features)
        >>> explain.attribute(torch.rand(2, 3, 16, 16), target=1).shape
        torch.Size([2, 1, 7, 7])
    """

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        baselines: Baselines = None,
        channel_softmax: bool = False,
        n_steps: int = 3,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Attributions | list[Attributions]:
        """Returns the IS-CAM map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): See :meth:`LayerScoreCAM.attribute`.
            target (int, tuple, Tensor or list, optional): See
                :meth:`LayerScoreCAM.attribute`.
            additional_forward_args (Any, optional): See
                :meth:`LayerScoreCAM.attribute`.
            attribute_to_layer_input (bool, optional): See
                :meth:`LayerScoreCAM.attribute`.
            relu_attributions (bool, optional): See :meth:`LayerScoreCAM.attribute`.
            baselines (Tensor, int, float or tuple, optional): See
                :meth:`LayerScoreCAM.attribute`.
            channel_softmax (bool, optional): See :meth:`LayerScoreCAM.attribute`.
            n_steps (int, optional): Points on the path, one forward pass per channel
                each. Default: 3
            method (str, optional): The rule that places them: "gausslegendre",
                "riemann_left", "riemann_right", "riemann_middle",
                "riemann_trapezoid" (Captum's names) or "recurrence".
                Default: "gausslegendre"
            internal_batch_size (int, optional): See :meth:`LayerScoreCAM.attribute`.
            show_progress (bool, optional): See :meth:`LayerScoreCAM.attribute`.

        Returns:
            **attributions** as of :meth:`LayerScoreCAM.attribute`.

        Raises:
            ValueError: If `n_steps` is below 1 or `method` unknown, and as in
                :meth:`LayerScoreCAM.attribute`.
            TypeError: As in :meth:`LayerScoreCAM.attribute`.
            RuntimeError: As in :meth:`LayerScoreCAM.attribute`.
        """
        points = path_points(n_steps, method, extra=(RECURRENCE,))
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            relu_attributions,
            baselines=baselines,
            channel_softmax=channel_softmax,
            internal_batch_size=internal_batch_size,
            show_progress=show_progress,
            rounds=[[Exposure(strength=t, weight=w) for t, w in points]],
        )
