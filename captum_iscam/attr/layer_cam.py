"""LayerCAM: activations weighed by the positive gradient at each position."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import Attributions
from captum_iscam.attr._gradients import LayerGradientMethod


class LayerCAM(LayerGradientMethod):
    r"""LayerCAM: activations weighed by the positive gradient at each position.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k \mathrm{ReLU}(g_k) \odot A_k\Big), \qquad
        g_k = \frac{\partial s}{\partial A_k}

    `A_k` is channel k of the layer and `g_k` the gradient of the score there, at each
    position. Grad-CAM has one weight for a whole channel; here every position has its
    own, so that maps of early layers keep their detail. The cost is one forward and `T`
    backward passes per example for its `T` targets, and a forward pass that checks
    model and target.
    Of several examples the faintest is passed once more, alone, which shows whether
    scores depend on anything but the input.

    Source: P.-T. Jiang, C.-B. Zhang, Q. Hou, M.-M. Cheng, Y. Wei, "LayerCAM: Exploring
    Hierarchical Class Activation Maps for Localization", IEEE Transactions on Image
    Processing 30, 2021, https://ieeexplore.ieee.org/document/9462463. The choices made:

    - the map is returned as it is. Before the paper combines layers it scales the maps
      of early ones to `tanh(2 L / max(L))`; :func:`captum_iscam.attr.fuse` combines
      maps in other ways;
    - after a ReLU, where no `A` is negative, neither is the map: the outer ReLU and
      `relu_attributions` change nothing.

    grad-cam and torch-cam compute the same map; both then scale it to [0, 1], and
    grad-cam resizes it to the input.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain, usually
            the last one with a spatial output. A list of layers gives a list of maps.
            If a layer runs several times in a forward pass, its last call counts.
            Layers without spatial dimensions `(N, K)` are allowed: each value is a
            channel of one position, and the map `(N, 1)` is one number per example,
            what the layer as a whole contributes. It says nothing of where.
        device_ids (list[int], optional): Device ids of the `DataParallel` model that a
            `forward_func` contains, in the order in which its outputs are joined. Not
            needed where `forward_func` is that model. Default: None
        score (str or Callable, optional): The score `s` of an output: "softmax" over
            dimension 1 (a probability), "sigmoid", "identity" (the output as it is:
            logits, regression, models that end in a softmax), or a function of the
            output. `target` is selected from the result. The raw output is the default,
            as in the source. Default: "identity"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. The gradients of the layer are transformed
            in the same way, so it must be linear. Default: None

    Raises:
        TypeError: If `forward_func` or `reshape_transform` is no callable, or `layer`
            is no module.
        ValueError: If `score` is unknown or `layer` is an empty list.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        >>> model = nn.Sequential(features, nn.Flatten(), nn.Linear(4 * 49, 5)).eval()
        >>> explain = LayerCAM(model, features)
        >>> explain.attribute(torch.rand(2, 3, 16, 16), target=[1, 3]).shape
        torch.Size([2, 1, 7, 7])
    """

    @classmethod
    def get_name(cls) -> str:
        """Returns the name of the method: "LayerCAM"."""
        return "LayerCAM"

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        internal_batch_size: int | None = None,
    ) -> Attributions | list[Attributions]:
        """Returns the LayerCAM map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, with one or
                three spatial dimensions, or `(N, features)`, floating point.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. An integer tensor or nested
                list `(N, T)`, or one row `(1, T)` for all examples, explains T classes
                of each example, with T backward passes for each forward pass.
                Default: None
            additional_forward_args (Any, optional): Further arguments of the model, one
                or a tuple. A tensor whose first dimension is `N` follows its example,
                in a list, tuple or dict too; everything else is passed on unchanged.
                Default: None
            attribute_to_layer_input (bool, optional): Explain the layer's input instead
                of its output. Default: False
            relu_attributions (bool, optional): Set negative values of the map to 0 and
                so keep only what supports the target, as in the papers. False returns
                the signed map. Captum's `LayerGradCam` has the default False.
                Default: True
            internal_batch_size (int, optional): Inputs per forward and backward pass.
                It bounds the memory. None picks a number for the device and halves it
                when memory runs out. Default: None

        Returns:
            *Tensor*, *tuple[Tensor, ...]* or a *list* of these of **attributions**:
            `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, at the layer's
            size, detached, in units of the score; higher values support the target
            more. A tuple for a layer with several outputs, a list for a list of layers.

        Raises:
            ValueError: If the layer did not run or gives tokens, the target is out of
                range, or an argument has a wrong value or shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: Under `torch.inference_mode`, and if the model gives NaN or
                infinity; the message says for which example.
        """
        return self._weighted(
            "layer-cam",
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            relu_attributions,
            internal_batch_size,
        )
