"""The one scoring loop of the project.

Every score method is `L = ReLU(sum_k a_k A_k)`. What sets the methods apart is which
views of a channel the model is shown to find `a_k`; a plan (`_plans`) says so, and
asks for the increase in confidence here.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_iscam._batching import Chunks
from captum_iscam._scoring import TargetScore
from captum_iscam.attr._masking import MaskedInputs, Noise


class OfExample:
    """The channels of one example that vary, `P` of `K`.

    Args:
        number (int): Which example of the batch.
        rows (Tensor): Their rows of `Channels.varying`.
        channels (Tensor): Which channels they are.
        maps (Tensor): `A` of all channels, `(K, places)`; never copied.
        rise (float): `s(x) - s(b)`, what a mask of ones would score.

    Attributes:
        norms (Tensor): `||A_k||` of each, `(P,)`, on the CPU in double precision, as
            all numbers that decisions rest on.
        spreads (Tensor): Standard deviation of each over its places.
    """

    def __init__(
        self,
        number: int,
        rows: Tensor,
        channels: Tensor,
        maps: Tensor,
        rise: float,
    ) -> None:
        self.number = number
        self.rows = rows
        self.rise = rise
        self._channels = channels
        self._maps = maps
        self.norms = maps.norm(dim=1)[channels].cpu().double()
        self.spreads = maps.std(dim=1, correction=0)[channels].cpu().double()

    @property
    def masks(self) -> Tensor:
        """Each channel scaled to [0, 1] at the layer's places, `(P, places)`."""
        maps = self.maps
        low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
        return (maps - low) / (high - low)

    @property
    def maps(self) -> Tensor:
        """`A` of the channels that vary, `(P, places)`."""
        return self._maps[self._channels].cpu().double()

    def total(self, weights: Tensor) -> Tensor:
        """Returns `sum_k a_k A_k`, `(places,)`, for weights `(P,)`."""
        full = self._maps.new_zeros(len(self._maps))
        full[self._channels] = weights.to(self._maps)
        with torch.autocast(self._maps.device.type, enabled=False):
            return full @ self._maps

    def squared_norm(self, weights: Tensor) -> float:
        """Returns the squared norm of `sum_k a_k A_k`."""
        return float(self.total(weights).double().square().sum().item())


class Channels:
    """The channels of a layer, and what the model makes of the input masked by them.

    It is to be used in a `with` statement, which scores the baselines first.

    Args:
        activations (Tensor): `A`, `(N, K, *spatial)`.
        views (MaskedInputs): Makes the masked inputs.
        score (TargetScore): Scores them.
        chunks (Chunks): How many of them go into one forward pass.
        confidence (Tensor): `s(x)` of each example.
        bar (tqdm): Shows the progress.

    Attributes:
        varying (Tensor): Example and channel `(P, 2)`, on the CPU, of each channel
            that is not constant. The mask of a constant one is zero, so the increase
            in confidence is 0 without a pass.
        nothing (Tensor): `s(b)` of each example.
    """

    varying: Tensor
    nothing: Tensor

    def __init__(
        self,
        activations: Tensor,
        views: MaskedInputs,
        score: TargetScore,
        chunks: Chunks,
        confidence: Tensor,
        bar: tqdm[Any],
    ) -> None:
        self.activations = activations
        self.confidence = confidence
        self._views = views
        self._score = score
        self._chunks = chunks
        self._bar = bar
        flat = activations.flatten(2)
        self.varying = (flat.amax(2) > flat.amin(2)).nonzero().cpu()

    def __enter__(self) -> Channels:
        try:
            self.nothing = self._baseline_scores()
        except BaseException:
            self._bar.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def masked(self) -> list[Tensor]:
        """`x - b` of the inputs that masks are laid on."""
        return self._views.masked

    def of_examples(self) -> list[OfExample]:
        """Returns the channels of each example that has any that vary."""
        numbers = self.varying[:, 0].unique().tolist()
        rises = (self.confidence - self.nothing).tolist()
        return [
            OfExample(
                number,
                rows := (self.varying[:, 0] == number).nonzero().squeeze(1),
                self.varying[rows, 1].to(self.activations.device),
                self.activations[number].flatten(1),
                rises[number],
            )
            for number in numbers
        ]

    def expect(self, passes: int) -> None:
        """Tells the progress bar of passes to come."""
        self._bar.total = (self._bar.total or 0) + passes
        self._bar.refresh()

    def increase(
        self,
        pairs: Tensor,
        strengths: Tensor,
        noise: Noise | None = None,
        signs: Sequence[float] = (),
    ) -> Tensor:
        """Returns `C_k`, `(P, views)`, of several views of each channel asked for.

        Args:
            pairs (Tensor): Rows of `varying`.
            strengths (Tensor): Strength `(P, views)` of the mask in each view.
            noise (Noise, optional): Where noise comes from. Default: None
            signs (Sequence[float]): What the noise is multiplied by in each view.
        """
        count = strengths.shape[1]
        scores = self.nothing.new_empty(len(pairs) * count)
        on_device = pairs.to(scores.device)
        strengths = strengths.to(scores.device, scores.dtype)
        # Nothing is copied to the device in a pass, which would wait for it.
        table_of_signs = torch.tensor(signs, device=scores.device) if signs else None

        def body(start: int, stop: int) -> None:
            first, last = start // count, -(-stop // count)
            examples, channels = on_device[first:last].unbind(1)
            rows = slice(start - first * count, stop - first * count)
            shown = self._views.show(
                examples, channels, strengths[first:last], rows, noise, table_of_signs
            )
            row = torch.arange(start, stop, device=scores.device)
            owners = on_device[row // count, 0]
            scores[start:stop] = self._score(shown, owners)
            self._bar.update(stop - start)

        self._chunks.run(len(scores), body)
        table = scores.view(-1, count)
        for pair, view in (~torch.isfinite(table)).nonzero().tolist():
            example, channel = pairs[pair].tolist()
            raise _not_finite(
                table[pair, view],
                f"the masked pass of example {example}, channel {channel}, at strength "
                f"{strengths[pair, view]:g}",
            )
        return table - self.nothing[on_device[:, 0]].unsqueeze(1)

    def scatter(self, values: Tensor) -> Tensor:
        """Returns one value per row of `varying` as weights `(N, K)`."""
        weights = self.nothing.new_zeros(self.activations.shape[:2])
        examples, channels = self.varying.to(weights.device).unbind(1)
        weights[examples, channels] = values.to(weights)
        return weights

    def gather(self, weights: Tensor) -> Tensor:
        """Returns weights `(N, K)` as one value per row of `varying`, on the CPU."""
        examples, channels = self.varying.to(weights.device).unbind(1)
        return weights[examples, channels].cpu().double()

    def _baseline_scores(self) -> Tensor:
        try:
            nothing = self._score_baselines()
        except RuntimeError:
            if not self._views.channels_last:
                raise
            # Some models reshape with view, which needs the usual layout.
            self._views.lay_out(channels_last=False)
            nothing = self._score_baselines()
        check_finite(nothing, "the baseline pass of example {}")
        return nothing

    def _score_baselines(self) -> Tensor:
        scores: list[Tensor] = []

        def body(start: int, stop: int) -> None:
            examples = torch.arange(start, stop)
            inputs = self._views.baseline(examples)
            scores.append(self._score(inputs, examples))

        self._chunks.run(len(self.activations), body)
        return torch.cat(scores).to(self.confidence.device)


def check_finite(scores: Tensor, where: str) -> None:
    """Raises for the first score of an example, `(N,)`, that is NaN or infinite."""
    for example in (~torch.isfinite(scores)).nonzero().reshape(-1).tolist():
        raise _not_finite(scores[example], where.format(example))


def _not_finite(score: Tensor, where: str) -> RuntimeError:
    return RuntimeError(
        f"forward_func must return finite scores, got {score.item()} in {where}. "
        "Check the model, and use float32 or bfloat16 where float16 overflows."
    )
