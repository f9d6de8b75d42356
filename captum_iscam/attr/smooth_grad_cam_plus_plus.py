"""Smooth Grad-CAM++: Grad-CAM++ with gradients averaged over noise."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.inputs import Batch
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_count, check_generator
from captum_iscam.attr._base import Attributions
from captum_iscam.attr._gradients import gradient_batch
from captum_iscam.attr._masking import check_noise, stdevs_for
from captum_iscam.attr._perturbations import GradientAccumulator, IdentityPerturbation
from captum_iscam.attr._weightings import WEIGHTINGS, GradientWeighting, MeanPowers
from captum_iscam.attr.grad_cam_plus_plus import LayerGradCAMPlusPlus, weighting_of


class LayerSmoothGradCAMPlusPlus(LayerGradCAMPlusPlus):
    r"""Smooth Grad-CAM++: Grad-CAM++ over noisy copies of the input.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k w_k A_k\Big), \qquad
        w_k = \sum_{ij} \alpha_{k,ij} \,\mathrm{ReLU}(D^1_{k,ij})

    .. math::
        \alpha_{k,ij} = \frac{D^2_{k,ij}}
            {2 D^2_{k,ij} + \big(\sum_{ab} A_{k,ab}\big) D^3_{k,ij}}, \qquad
        D^p = \frac{1}{S} \sum_{i=1}^{S} g(x + e_i)^p,
            \quad e_i \sim \mathcal{N}(0, \sigma^2)

    `A_k` is channel k of the layer for the input itself and `g(z)` the gradient of the
    score at the layer for the input `z`. With `stdevs=0` it is
    :class:`LayerGradCAMPlusPlus`. The cost is `n_samples` forward passes per example,
    each with a backward pass for each of its `T` targets, and three means of the
    layer's size for each target. Of all copies the first and the last are passed
    once more, each alone, which shows whether scores depend on anything but the input.

    Source: D. Omeiza, S. Speakman, C. Cintas, K. Weldermariam, "Smooth Grad-CAM++: An
    Enhanced Inference Level Visualization Technique for Deep Convolutional Neural
    Network Models", 2019, https://arxiv.org/abs/1908.01224. Where the idea alone does
    not decide, the choices are:

    - the numerator of alpha is `D^2`, so that without noise the method is Grad-CAM++.
      torch-cam reports that the paper prints `D^1` and corrects it likewise;
    - the rectified gradient is that of the mean `D^1`. torch-cam takes the last noisy
      copy's, the notebooks of the SS-CAM authors the input's own;
    - `A_k` comes from the input itself, without noise;
    - a factor `exp(S)` is omitted from every copy, as in Grad-CAM++;
    - `n_samples=35` is the number in the SS-CAM authors' notebooks and `stdevs=0.3`,
      in the units of a normalised image, torch-cam's deviation; the paper's own are not
      known to us. Single channels or neurons cannot be chosen.

    The noise is drawn once per pair of samples, `e` and `-e`, and shared by all
    examples and targets: it depends on `generator` alone, neither on the batch, the
    chunks nor the device of the inputs. Where the generator lives on another device
    than the inputs, all of it is drawn before the first pass and moved there at once:
    half of `n_samples` fields of the size of one example.

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
        >>> explain = LayerSmoothGradCAMPlusPlus(model, features)
        >>> generator = torch.Generator().manual_seed(0)
        >>> explain.attribute(
        ...     torch.rand(2, 3, 16, 16), target=1, n_samples=4, generator=generator
        ... ).shape
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
        n_samples: int = 35,
        stdevs: float | tuple[float, ...] = 0.3,
        generator: torch.Generator | None = None,
        denominator: str = "activations",
        internal_batch_size: int | None = None,
    ) -> Attributions | list[Attributions]:
        """Returns the Smooth Grad-CAM++ map of each example.

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
            n_samples (int, optional): `S`, the number of noisy copies of each input.
                Default: 35
            stdevs (float or tuple[float, ...], optional): `sigma`, in the units of the
                input; a tuple has one for each input tensor. Default: 0.3
            generator (torch.Generator, optional): Source of the noise, on any device.
                None takes torch's global CPU generator, so that a seed gives one map on
                every device. Default: None
            denominator (str, optional): What the third power of the gradient is
                multiplied by: "activations" for the sum of `A` as in equation 19,
                "products" for the sum of `A g^3` instead. Default: "activations"
            internal_batch_size (int, optional): Inputs per forward and backward pass.
                It bounds the memory. None picks a number for the device and halves it
                when memory runs out. Each noisy copy is one input. Default: None

        Returns:
            *Tensor*, *tuple[Tensor, ...]* or a *list* of these of **attributions**:
            `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, at the layer's
            size, detached, in units of the score up to a factor per example; higher
            values support the target more. A tuple for a layer with several outputs, a
            list for a list of layers.

        Raises:
            ValueError: If `n_samples` is below 1, `stdevs` is negative, the layer did
                not run or gives tokens, the target is out of range, or an argument has
                a wrong value or shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: Under `torch.inference_mode`, and if the model gives NaN or
                infinity; the message says for which example and sample.
        """
        weighting = WEIGHTINGS[weighting_of(denominator)]
        check_generator(generator)
        as_count("n_samples", n_samples, "It counts the noisy copies of each input.")
        if stdevs is None:
            raise ValueError("stdevs must be a number, got None. Leave it out for 0.3.")
        check_noise("input", stdevs)
        batch = gradient_batch(inputs, None, self.forward_func)
        perturbations = _NoisyCopies(
            batch,
            weighting,
            relu_attributions,
            n_samples,
            stdevs_for(batch.inputs, stdevs) or (),
            generator,
        )
        return self._attribute(
            batch,
            perturbations,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            internal_batch_size,
        )


class _NoisyCopies(IdentityPerturbation):
    """The inputs with noise, its sign changing from one to the next."""

    shows_first = False

    def __init__(
        self,
        batch: Batch,
        weighting: GradientWeighting,
        relu: bool,
        n_samples: int,
        stdevs: tuple[float, ...],
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(batch, weighting, relu)
        self._n_samples = n_samples
        self._stdevs = stdevs
        # Without a generator torch's of the CPU: a seed gives one map on all devices.
        self._device = generator.device if generator else torch.device("cpu")
        # A seed per pair, so that every chunk can make the fields it needs.
        self._seeds = torch.randint(
            2**62,
            (-(-n_samples // 2),),
            generator=generator,
            device=self._device,
        ).tolist()
        # A field that is moved in a pass makes the host wait.
        self._moved = None if self._device == batch.device else self._all(batch.device)

    def __len__(self) -> int:
        """Returns the number of samples."""
        return self._n_samples

    def make(self, index: int, rows: slice) -> tuple[Tensor, ...]:
        """Returns the inputs of the examples, plus or minus the noise of the pair."""
        pair = index // 2
        fields = self._moved[pair] if self._moved else self._draw(pair)
        shown = []
        for x, stdev, field in zip(
            self._batch.inputs, self._stdevs, fields, strict=True
        ):
            single = at_least_single(x[rows])
            noise = (-stdev if index % 2 else stdev) * field.to(single)
            shown.append((single + noise).to(x.dtype))
        return tuple(shown)

    def _draw(self, pair: int) -> tuple[Tensor, ...]:
        """Returns the noise of a pair of samples, a field for each input."""
        source = torch.Generator(self._device).manual_seed(self._seeds[pair])
        # Always drawn in single precision: a seed means one noise for every type.
        return tuple(
            torch.randn(
                (1, *x.shape[1:]),
                generator=source,
                device=self._device,
                dtype=torch.float32,
            )
            for x in self._batch.inputs
        )

    def _all(self, device: torch.device) -> list[tuple[Tensor, ...]]:
        """Returns the noise of every pair, moved in one go for each input."""
        drawn = [self._draw(pair) for pair in range(len(self._seeds))]
        columns = [
            torch.stack(column).to(device) for column in zip(*drawn, strict=True)
        ]
        return list(zip(*columns, strict=True))

    def name(self, index: int) -> str:
        """Returns which of the noisy copies it is."""
        return f"with the noise of sample {index}"

    def accumulator(self, activations: Tensor) -> GradientAccumulator:
        """Returns the means of the powers of the gradients, still zero."""
        return MeanPowers(activations, len(self), self._weighting)
