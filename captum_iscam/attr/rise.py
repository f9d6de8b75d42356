"""RISE: the mean of random masks, weighted by the confidence they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.captum_compat import (
    PerturbationAttribution,
    format_output,
    log_usage,
    run_forward,
)
from captum_iscam._utils.forward import (
    Baselines,
    TargetScore,
    at_least_single,
)
from captum_iscam._utils.further_arguments import copied
from captum_iscam._utils.inputs import (
    Batch,
    batch_axis_named,
    check_inputs,
    require_positions,
    rows_of,
)
from captum_iscam._utils.scores import Score, score_transform
from captum_iscam._utils.steadiness import Ends
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import keeping_buffers
from captum_iscam._utils.validation import (
    as_count,
    as_number,
    check_generator,
    require_finite,
    require_floating,
)
from captum_iscam.attr._base import Attributions, progress_bar, warn_of_zero_maps
from captum_iscam.attr._error import warn_of_overflow
from captum_iscam.attr._layer import eager
from captum_iscam.attr._layout import warn_of_inputs
from captum_iscam.attr._random_masks import RandomMasks


class RISE(PerturbationAttribution):
    r"""RISE: random masks, summed with the confidence the model keeps in each.

    .. math::
        L = \frac{1}{n\,p} \sum_{i=1}^{n} s(b + M_i \odot (x - b))\, M_i

    The masks start as a coarse grid whose cells are 1 with the probability `p`. They
    are upsampled linearly to one cell more than the input's size, mirrored beyond the
    outermost centres, and cropped at a random position. `s` is the score of the target
    and `b` the baseline. The cost is `n_masks` forward passes per example, and three
    of the input and the baseline. A constant score gives each pixel the mean of its
    masks over `p`, about that constant everywhere. The noise of every map falls with
    the square root of `n_masks`.

    Source: V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for
    Explanation of Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421, and
    the authors' code, for the division by `n p`, the cells of `ceil(H / grid)` pixels
    and the mirror (skimage's mode "reflect"). Their notebooks take 2000 to 6000 masks,
    grids of 8 and 10, and `p` of 0.1 or 0.5; the defaults here are the numbers that
    others cite for the paper's VGG16.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        score (str or Callable, optional): The score `s` of an output: "softmax" over
            dimension 1 (a probability), "sigmoid", "identity" (the output as it is:
            logits, regression, models that end in a softmax), or a function of the
            output. `target` is selected from the result. Default: "softmax"

    Raises:
        ValueError: If `score` is unknown.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()
        >>> generator = torch.Generator().manual_seed(0)
        >>> RISE(model).attribute(
        ...     torch.rand(2, 3, 16, 16), target=1, n_masks=50, generator=generator
        ... ).shape
        torch.Size([2, 1, 16, 16])
    """

    takes_several_targets: ClassVar[bool] = True
    """`target` may be `(N, T)`: T maps of each example for the passes of one."""

    def __init__(
        self, forward_func: Callable[..., Any], *, score: Score = "softmax"
    ) -> None:
        score_transform(score)
        PerturbationAttribution.__init__(self, forward_func)
        self.score = score

    @classmethod
    def get_name(cls) -> str:
        """Returns "RISE"."""
        return cls.__name__

    @property
    def multiplies_by_inputs(self) -> bool:
        """False: the maps have the units of the score."""
        return False

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        *,
        n_masks: int = 4000,
        grid: int | tuple[int, ...] = 7,
        keep_probability: float = 0.5,
        baselines: Baselines = None,
        generator: torch.Generator | None = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Attributions:
        """Returns the RISE map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, or with one or
                three spatial dimensions, floating point. Several inputs must have the
                same number of dimensions; all are masked with the same masks, each at
                its own size. Pass any other tensor as `additional_forward_args`.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. An integer tensor or nested
                list `(N, T)`, or one row `(1, T)` for all examples, explains T classes
                of each example with the passes of one. Default: None
            additional_forward_args (Any, optional): Further arguments of the model, one
                or a tuple. A tensor whose first dimension is `N` follows its example,
                in a list, tuple or dict too; everything else is passed on unchanged.
                Default: None
            n_masks (int, optional): `n`, the number of masks, shared by all examples.
                Default: 4000
            grid (int or tuple[int, ...], optional): Number of cells of a mask in each
                spatial direction; more cells find smaller objects. Default: 7
            keep_probability (float, optional): `p`, the mean share of the input that a
                mask keeps, above 0 and at most 1. Default: 0.5
            baselines (Tensor, int, float or tuple, optional): `b`, the value of masked
                pixels: a number, or a tensor like the input or with one example; a
                tuple has one entry for each input. For normalised images 0 is the mean
                colour. Default: None, that is 0
            generator (torch.Generator, optional): Source of the masks, on any device.
                None takes torch's global CPU generator, so that a seed gives one map on
                every device. Default: None
            internal_batch_size (int, optional): Masked inputs per forward pass; a pass
                may hold several examples and masks. It bounds the memory. None picks a
                number for the device and halves it when memory runs out. The masks are
                made for one pass at a time. Default: None
            show_progress (bool, optional): Show a progress bar on standard error for
                work of more than a second. Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**: `(N, 1, *spatial)` at
            the input's size, or `(N, T, *spatial)` for T targets, detached, in units of
            the score; higher values support the target more. float32 for
            half-precision inputs, otherwise their type. A tuple for a tuple of inputs.

        Raises:
            ValueError: If the target is out of range, or an argument has a wrong value
                or shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: If the model gives NaN or infinity; the message says in which
                pass. Masked passes are looked at when all are done.
        """
        kept = _check_masks(n_masks, keep_probability)
        check_generator(generator)
        batch = check_inputs(inputs, baselines, self.forward_func)
        cells = _grid(grid, batch)
        chunks = Chunks(
            internal_batch_size, batch.inputs, forward_func=self.forward_func
        )
        score = TargetScore(
            keeping_buffers(self.forward_func),
            self.score,
            target,
            additional_forward_args,
            batch.num_examples,
            batch.device,
        )
        with torch.no_grad():
            found = self._input_scores(batch, score, chunks)
            every = range(len(batch.inputs))
            Ends(batch, score, chunks, found, every).warn_of_unsteady()
            masks = RandomMasks(n_masks, cells, kept, generator, batch.device)
            passes = n_masks * batch.num_examples
            with progress_bar(self.get_name(), show_progress, passes) as bar:
                sums = weighted_sums(batch, masks, score, found, chunks, bar.update)
            score.warn_of_range()
        maps = tuple(
            warn_of_zero_maps(
                warn_of_overflow(total.div_(n_masks * kept)),
                "the score is 0 under every mask. Pass a larger keep_probability.",
            )
            for total in sums
        )
        return cast(Attributions, format_output(isinstance(inputs, tuple), maps))

    def _input_scores(self, batch: Batch, score: TargetScore, chunks: Chunks) -> Tensor:
        """Returns `s(x)`, `(N, T)`, or raises before any masked pass what is wrong."""
        # Copies, since a model may well prepare its input in place.
        inputs = tuple(x.clone() for x in batch.inputs)
        model, additional = eager(score.forward_func), score.additional
        with batch_axis_named(model, batch.inputs, additional) as taken:
            sizes = chunks.fitted_to(eager(self.forward_func), batch.num_examples)
            with sizes, score.first_pass():
                output = run_forward(
                    score.forward_func,
                    inputs,
                    additional_forward_args=copied(additional),
                )
            score.check(output, inputs)
        warn_of_inputs(taken, batch.inputs)
        return score.of_inputs(output).to(batch.device)


def _check_masks(n_masks: int, keep_probability: float) -> float:
    """Returns the share of the input that a mask keeps, checked with the number."""
    as_count("n_masks", n_masks, "It counts the masks, and so the passes per example.")
    share = as_number(keep_probability)
    if share is None or not 0 < share <= 1:
        raise ValueError(
            f"keep_probability must be above 0 and at most 1, got {keep_probability!r}."
            " It is the share of the input that a mask keeps."
        )
    return share


def _grid(grid: int | tuple[int, ...], batch: Batch) -> tuple[int, ...]:
    """Returns the cells in each spatial direction of the inputs, which are checked."""
    require_positions(batch.inputs)
    shapes = [tuple(x.shape) for x in batch.inputs]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) != 1 or not ranks <= {3, 4, 5}:
        raise ValueError(
            "inputs must have one to three spatial dimensions, as many each, to be "
            f"masked, got shapes {shapes}. Pass others as additional_forward_args."
        )
    for x in batch.inputs:
        require_floating("inputs", x, "Convert them with inputs.float().")
    spatial = len(shapes[0]) - 2
    cells = grid if isinstance(grid, tuple) else (grid,) * spatial
    if len(cells) != spatial or not all(type(n) is int and n > 0 for n in cells):
        raise ValueError(
            "grid must be an integer of at least 1, or one for each of the "
            f"{spatial} spatial dimensions, got {grid!r}. Take 7 for a start."
        )
    return cells


def weighted_sums(
    batch: Batch,
    masks: RandomMasks,
    score: TargetScore,
    like: Tensor,
    chunks: Chunks,
    update: Callable[[int], Any],
) -> list[Tensor]:
    """Returns `sum_i s_i M_i` for each input and target, `(N, T, *spatial)`.

    Args:
        batch (Batch): The inputs.
        masks (RandomMasks): The masks, shared by all examples.
        score (TargetScore): Scores the masked inputs.
        like (Tensor): `s(x)`, `(N, T)`.
        chunks (Chunks): Sets the number of masked inputs in one forward pass.
        update (Callable): Takes the number of passes that were done.

    Raises:
        RuntimeError: If a score is not finite. The scores are looked at after the last
            pass, so that no pass waits for the device.
    """
    count, several = like.shape
    scores = like.new_empty(count * len(masks), several)
    sums = [
        at_least_single(x).new_zeros(count, several, *x.shape[2:]) for x in batch.inputs
    ]

    def body(start: int, stop: int) -> None:
        # Rows go over examples first, so those of some masks follow each other.
        first, last = start // count, -(-stop // count)
        rows = slice(start - first * count, stop - first * count)
        order = torch.arange(start, stop, device=batch.device)
        example_index, which = order % count, order // count - first
        made = [masks.make(first, last, x) for x in batch.inputs]
        shown = []
        for x, b, mask in zip(batch.inputs, batch.baselines, made, strict=True):
            below = at_least_single(rows_of(b, example_index))
            seen = below + mask[which] * (
                at_least_single(rows_of(x, example_index)) - below
            )
            shown.append(seen.to(x.dtype))
        found = score(tuple(shown), example_index)
        scores[start:stop] = found.view(-1, several)
        weights = scores.new_zeros((last - first) * count, several)
        weights[rows] = scores[start:stop]
        weights = weights.view(last - first, -1)
        # Autocast would round the product to half precision.
        with torch.autocast(batch.device.type, enabled=False):
            shares = [
                (weights.to(mask.dtype).T @ mask.flatten(1)).view_as(total)
                for total, mask in zip(sums, made, strict=True)
            ]
        # Memory that runs out has done so by now: what is tried again counts once.
        for total, share in zip(sums, shares, strict=True):
            total += share
        update(stop - start)

    chunks.run(len(scores), body)
    require_finite(
        scores, lambda i: f"the pass of example {i % count} with mask {i // count}"
    )
    return sums
