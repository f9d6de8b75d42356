"""Whether the scores of gradient passes depend on anything but the input.

Score methods show each input once more (`_utils/steadiness.py`). That would double the
cost of a method of one pass, so gradient methods compare what they have:

1. The first pass, without gradients, shows the inputs as they are, and so does the pass
   with gradients of all methods but two. Their scores must be the same.
2. Where a row has others beside it, that of the faintest example is scored alone, once
   for each call of `attribute`: brighter ones would change it most. One input of a
   method of one pass has none beside it and costs nothing more.
3. Of several perturbations the first is scored alone too. On a path it is the faintest.
   So 50 points take 52 rows besides the first pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum_iscam._utils.batching import is_out_of_memory
from captum_iscam._utils.forward import TargetScore, at_least_single
from captum_iscam._utils.hooks import eager_passes
from captum_iscam._utils.inputs import Batch
from captum_iscam._utils.steadiness import (
    ALONE,
    differ,
    is_asked,
    warn_of_unsteady,
)
from captum_iscam._utils.warn import warn_user
from captum_iscam.attr._error import NearOne
from captum_iscam.attr._layer import LayerPass
from captum_iscam.attr._perturbations import Chunk, Perturbations
from captum_iscam.attr._row_order import layer_rows, sample, warn_of_order


class Steadiness:
    """The scores of one call of `attribute`, compared once, at its first layer.

    Args:
        score (TargetScore): Scores the inputs.
        batch (Batch): The inputs.
        perturbations (Perturbations): What becomes of them.
    """

    def __init__(
        self, score: TargetScore, batch: Batch, perturbations: Perturbations
    ) -> None:
        self._score = score
        self._batch = batch
        self._perturbations = perturbations
        self._rows = batch.num_examples * len(perturbations)
        self._near_one = NearOne(score, len(perturbations))
        self._done = False
        self._which = _faintest(batch)
        self._last: Tensor | None = None
        self._first_alone: Tensor | None = None
        self._alone: list[Tensor] = []

    def note_first(self, output: Tensor) -> None:
        """Keeps the scores of the first pass, in copies: models reuse their memory."""
        count = self._batch.num_examples
        examples = torch.arange(count, device=self._batch.device)
        found = self._score.of_output(output, examples).detach()
        self._first = found.clone().view(count, -1)
        self._near_one.note_first(output, self._first)
        size = self._first
        if self._score.score == "identity":  # rounded as the largest logit is
            size = at_least_single(output.detach()).reshape(count, -1)
        # A baseline may give NaN, which is no size.
        size = size.abs().amax(1, keepdim=True).nan_to_num(0, 0)
        self._size = size.to(self._first).expand_as(self._first)
        self._found = torch.zeros_like(self._first)

    def note(self, chunk: Chunk, seen: LayerPass) -> None:
        """Keeps the scores of a pass with gradients, those of the last perturbation."""
        scores = seen.scores.detach().view(chunk.stop - chunk.start, -1)
        self._shown = sample(seen.values())
        self._near_one.note(chunk.examples(scores.device), scores)
        before = self._rows - len(self._found)
        start, stop = (max(0, row - before) for row in (chunk.start, chunk.stop))
        if chunk.start <= self._which < chunk.stop:
            row = self._which - chunk.start
            self._first_found = scores[row].view(1, -1).clone()
        if stop > start:
            self._found[start:stop] = scores[start - stop :].to(self._found)

    def score_alone(self, layer: nn.Module, of_input: bool) -> None:
        """Scores a row alone, unless the first pass did, or it was warned of."""
        self._done = self._done or not is_asked(self._score)
        if self._done or (self._rows == 1 and self._perturbations.shows_first):
            return
        count = self._batch.num_examples
        with layer_rows(layer, of_input) as self._alone:
            self._last = self._alone_at(self._rows - count + self._which)
        if self._last is not None and self._rows > count:
            self._first_alone = self._alone_at(self._which)

    def _alone_at(self, row: int) -> Tensor | None:
        """Returns the score of a row alone, `(1, T)`, None if the model fails."""
        count = self._batch.num_examples
        chunk = Chunk(self._perturbations, row, row + 1, count)
        with torch.no_grad(), eager_passes:
            alone = _scored(
                lambda: self._score(chunk.inputs(), chunk.examples(self._batch.device))
            )
        return None if alone is None else alone.view(1, -1).to(self._found)

    def check(self) -> None:
        """Warns of scores that are not of their input alone, or round; this waits."""
        if self._done:
            return
        self._done = True
        self._near_one.warn()
        which = torch.zeros_like(self._first, dtype=torch.bool)
        if self._perturbations.shows_first:
            which = differ(self._first, self._found, self._size, self._batch)
        n = self._which
        size = self._size[n : n + 1]
        for alone, among in (
            (self._last, self._found[n : n + 1]),
            (self._first_alone, self._first_found),
        ):
            if alone is not None:
                changed = differ(alone, among.to(alone), size, self._batch, ALONE)
                which[n] |= changed[0]
        warn_of_unsteady(self._score, which)
        if not self._score.warned:
            count = self._batch.num_examples
            warn_of_order(self._alone, self._shown[-count:], count, one=n)


def _faintest(batch: Batch) -> int:
    """Returns the example that brighter ones beside it would change most."""
    if batch.num_examples == 1:
        return 0
    first = next(x for x in batch.inputs if x.is_floating_point())
    return int(first.abs().flatten(1).amax(1).argmin().item())


def _scored(score: Callable[[], Tensor]) -> Tensor | None:
    """Returns the score of one row alone; None, and a warning, if the model fails."""
    try:
        return score()
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        first_line = str(error).partition("\n")[0]
        warn_user(
            "Whether scores depend on the inputs beside them in a forward pass is "
            f"not known: forward_func fails for one input alone ({first_line})."
        )
        return None
