"""The one scoring loop of the project.

Every score method is `L = ReLU(sum_k a_k A_k)`. What sets the methods apart is which
views of a channel the model is shown to find `a_k`: rounds of `Exposure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_iscam._batching import Chunks
from captum_iscam._scoring import TargetScore
from captum_iscam._warnings import warn_user
from captum_iscam.attr._masking import Exposure, MaskedInputs, Noise

Rounds = Sequence[Sequence[Exposure]]


class ChannelWeights:
    """Finds `a_k`: the increase in confidence, weighted over what the model is shown.

    Args:
        views (MaskedInputs): Makes the masked inputs.
        score (TargetScore): Scores them.
        chunks (Chunks): How many of them go into one forward pass.
        confidence (Tensor): `s(x)` of each example.
        progress (Callable): Makes a progress bar of so many passes.
    """

    def __init__(
        self,
        views: MaskedInputs,
        score: TargetScore,
        chunks: Chunks,
        confidence: Tensor,
        progress: Callable[[int], tqdm[Any]],
    ) -> None:
        self._views = views
        self._score = score
        self._chunks = chunks
        self._confidence = confidence
        self._progress = progress

    def __call__(
        self, activations: Tensor, rounds: Rounds, noise: Noise | None
    ) -> Tensor:
        """Returns `a`, `(N, K)`."""
        nothing = self._baseline_scores(activations.shape[0])
        # Strength 0 shows the baseline, whose increase in confidence is 0, and so does
        # a constant channel, whose mask is zero: neither needs the model.
        shown = [[e for e in exposures if e.strength] for exposures in rounds]
        rounds = [exposures for exposures in shown if exposures]
        flat = activations.flatten(2)
        varying = (flat.amax(2) > flat.amin(2)).nonzero().cpu()
        weights = nothing.new_zeros(activations.shape[:2])
        examples, channels = varying.to(activations.device).unbind(1)
        found = nothing.new_zeros(len(varying))
        total = len(varying) * sum(len(exposures) for exposures in rounds)
        with self._progress(total) as bar:
            for exposures in rounds:
                if noise is not None:
                    noise.draw(self._views.masked)
                scores = self._scores(varying, exposures, noise, bar.update)
                increase = scores - nothing[examples].unsqueeze(1)
                # No matrix product: autocast would round it to half precision.
                shares = scores.new_tensor([e.weight for e in exposures])
                found += (increase * shares).sum(1)
        if noise is not None:
            self._warn_of_drowned(found, nothing, examples)
        weights[examples, channels] = found
        return weights

    def _baseline_scores(self, num_examples: int) -> Tensor:
        try:
            nothing = self._score_baselines(num_examples)
        except RuntimeError:
            if not self._views.channels_last:
                raise
            # Some models reshape with view, which needs the usual layout.
            self._views.lay_out(channels_last=False)
            nothing = self._score_baselines(num_examples)
        check_finite(nothing, "the baseline pass of example {}")
        return nothing

    def _score_baselines(self, num_examples: int) -> Tensor:
        scores: list[Tensor] = []

        def body(start: int, stop: int) -> None:
            examples = torch.arange(start, stop)
            inputs = self._views.baseline(examples)
            scores.append(self._score(inputs, examples))

        self._chunks.run(num_examples, body)
        return torch.cat(scores).to(self._confidence.device)

    def _scores(
        self,
        varying: Tensor,
        exposures: Sequence[Exposure],
        noise: Noise | None,
        update: Callable[[int], Any],
    ) -> Tensor:
        """Returns `s` of every exposure of the channels, `(channels, exposures)`."""
        count = len(exposures)
        scores = self._confidence.new_empty(len(varying) * count)
        on_device = varying.to(scores.device)

        def body(start: int, stop: int) -> None:
            first, last = start // count, -(-stop // count)
            examples, channels = on_device[first:last].unbind(1)
            rows = slice(start - first * count, stop - first * count)
            shown = self._views.show(examples, channels, exposures, rows, noise)
            owners = varying[torch.arange(start, stop) // count, 0]
            scores[start:stop] = self._score(shown, owners)
            update(stop - start)

        self._chunks.run(len(scores), body)
        table = scores.view(-1, count)
        for pair, step in (~torch.isfinite(table)).nonzero().tolist():
            example, channel = varying[pair].tolist()
            raise _not_finite(
                table[pair, step],
                f"the masked pass of example {example}, channel {channel}, at strength "
                f"{exposures[step].strength:g}",
            )
        return table

    def _warn_of_drowned(
        self, found: Tensor, nothing: Tensor, examples: Tensor
    ) -> None:
        """Warns where no channel keeps even a hundredth of the confidence."""
        best = torch.full_like(nothing, -torch.inf)
        best = best.scatter_reduce(0, examples, found, "amax")
        rise = self._confidence - nothing
        drowned = (rise > 0) & (best < 0.01 * rise)
        _warn_of_examples(
            drowned,
            "The noise leaves no channel a hundredth of the confidence the input has, "
            "so the map says little about {}. Pass smaller stdevs.",
        )


def softmax_over_channels(weights: Tensor) -> Tensor:
    shares = torch.softmax(weights, dim=1)
    entropy = torch.special.entr(shares).sum(1)
    _warn_of_examples(
        entropy.exp() > 0.99 * shares.shape[1],
        "channel_softmax makes the channel weights all but equal for {}, so the map is "
        "the mean of the channels, whatever the target. Leave it out, or use a score "
        'that varies more, such as score="identity".',
    )
    return shares


def combine(weights: Tensor, activations: Tensor, relu: bool) -> Tensor:
    """Returns `sum_k a_k A_k`, `(N, 1, *spatial)`, rectified on request."""
    flat = activations.flatten(2)
    with torch.autocast(activations.device.type, enabled=False):
        summed = torch.bmm(weights.to(flat.dtype).unsqueeze(1), flat)
    attributions = summed.view(len(flat), 1, *activations.shape[2:])
    if not relu:
        return attributions
    _warn_of_examples(
        (attributions <= 0).flatten(1).all(1),
        "The map is zero everywhere for {}: what speaks for the target is in no "
        "channel. relu_attributions=False shows what speaks against it.",
    )
    return attributions.relu()


def _warn_of_examples(which: Tensor, text: str) -> None:
    """Warns once, naming the examples, where there are any."""
    numbers = which.nonzero().reshape(-1).tolist()
    if numbers:
        names = ", ".join(str(number) for number in numbers[:10])
        more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
        plural = "s" if len(numbers) > 1 else ""
        warn_user(text.format(f"example{plural} {names}{more}"))


def check_finite(scores: Tensor, where: str) -> None:
    """Raises for the first score of an example, `(N,)`, that is NaN or infinite."""
    for example in (~torch.isfinite(scores)).nonzero().reshape(-1).tolist():
        raise _not_finite(scores[example], where.format(example))


def _not_finite(score: Tensor, where: str) -> RuntimeError:
    return RuntimeError(
        f"forward_func must return finite scores, got {score.item()} in {where}. "
        "Check the model, and use float32 or bfloat16 where float16 overflows."
    )
