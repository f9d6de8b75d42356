"""From an image to its rows: a map by each method, a value by each metric."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_iscam._utils.batching import synchronize
from captum_iscam._utils.hooks import count_passes
from captum_iscam.benchmark.dataloader import Loaded, View
from captum_iscam.benchmark.experiment import Plan
from captum_iscam.benchmark.explained_models import Subject
from captum_iscam.benchmark.metric_registry import Question
from captum_iscam.benchmark.storage import COSTS, Cell, Curve, Row, Store, image_key
from captum_iscam.methods import METHODS

_UNREADABLE: Cell = (None, None, None)
# What models, methods and metrics raise of an input; Captum asserts.
_OF_THE_IMAGE = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)


class RowMaker:
    """One process's part of a run."""

    def __init__(self, plan: Plan, store: Store, done: dict[str, set[Cell]]) -> None:
        self.plan, self._store, self._done = plan, store, done
        self._cells = plan.cells()
        self._said: set[str] = set()

    def is_done(self, place: int) -> bool:
        """Whether an image has all its rows."""
        have = self._have(place)
        return _UNREADABLE in have or have.issuperset(self._cells)

    def image(self, loaded: Loaded) -> None:
        """Writes the rows of one image that are missing."""
        item = self.plan.data.items[loaded.place]
        base = Row(item.id, label=_index(item.label), group=item.class_name)
        if loaded.error is not None:
            self._store.add_row(replace(base, error=loaded.error))
            self._store.sync()
            return
        self._store.save_image(image_key(item.id), loaded.thumbnail)
        for subject, view in zip(self.plan.subjects, loaded.views, strict=True):
            self._subject(subject, view, base, loaded.place)
        self._done.pop(item.id, None)

    def _subject(self, subject: Subject, view: View, base: Row, place: int) -> None:
        """Writes the rows of one image on one network that are missing."""
        wanted = self._wanted(subject, place)
        if not wanted:
            return
        model, inputs = subject.network.model, view.inputs.to(self.plan.device)
        base = replace(base, model=subject.name)
        try:
            probabilities = self._probabilities(model, inputs)
        except _OF_THE_IMAGE as error:
            for method, metrics in wanted.items():
                self._fail(replace(base, method=method), metrics, error)
            return
        prediction = int(probabilities.argmax())
        target = prediction
        if self.plan.target_class == "true" and base.label is not None:
            target = base.label
        base = replace(
            base,
            target=target,
            prediction=prediction,
            probability=float(probabilities[target]),
        )
        probabilities[target] = -1
        mask = view.masks.get(target)
        for method, metrics in wanted.items():
            explainer = _Explainer(self.plan, subject, method, place)
            question = Question(
                model=model,
                inputs=inputs,
                attributions=inputs[:, :1],
                target=target,
                other_target=int(probabilities.argmax()),
                mask=None if mask is None else mask.to(self.plan.device),
                explain=explainer,
                explain_again=_Remembering(explainer),
                seed=self.plan.image_seed(place),
                internal_batch_size=self.plan.options.internal_batch_size,
            )
            self._method(replace(base, method=method), question, metrics)
            self._store.sync()

    def _wanted(self, subject: Subject, place: int) -> dict[str, list[str]]:
        """Returns by method the metrics without a row."""
        have, wanted = self._have(place), dict[str, list[str]]()
        for model, method, metric in self._cells:
            if model == subject.name and (model, method, metric) not in have:
                wanted.setdefault(method, []).append(metric)
        return wanted

    def _method(self, base: Row, question: Question, metrics: Sequence[str]) -> None:
        """Makes a map and writes the rows of these metrics."""
        try:
            with self._warnings_of(base), count_passes(question.model) as passes:
                start = _now(self.plan.device)
                maps = question.explain(question.inputs, target=question.target)
                seconds = _now(self.plan.device) - start
        except _OF_THE_IMAGE as error:
            self._fail(base, metrics, error)
            return
        key = image_key(base.image)
        self._store.save_map(str(base.model), str(base.method), key, maps)
        costs = dict(
            zip(COSTS, (seconds, passes.rows, passes.backward_rows), strict=True)
        )
        question = replace(question, attributions=maps)
        for metric in metrics:
            row = replace(base, metric=metric)
            if metric in costs:
                row = replace(row, value=float(costs[metric]))
            else:
                row = self._answered(row, question, metric)
            self._store.add_row(row)

    def _answered(self, row: Row, question: Question, metric: str) -> Row:
        """Returns the row with the metric's value; writes the curve behind it."""
        try:
            with self._warnings_of(row), precision(self.plan):
                answer = self.plan.measures[metric].answer(question)
        except _OF_THE_IMAGE as error:
            return replace(row, error=_said_of(error))
        if answer.fractions is not None and answer.scores is not None:
            about = (row.image, str(row.model), str(row.method), metric)
            self._store.add_curve(Curve(*about, answer.fractions, answer.scores))
        return replace(row, value=answer.value)

    def _fail(self, base: Row, metrics: Sequence[str], error: Exception) -> None:
        """Writes rows that say what went wrong."""
        said = _said_of(error)
        for metric in metrics:
            self._store.add_row(replace(base, metric=metric, error=said))

    def _probabilities(self, model: nn.Module, inputs: Tensor) -> Tensor:
        with torch.no_grad(), precision(self.plan):
            logits: Tensor = model(inputs)[0].float().cpu()
        if not bool(torch.isfinite(logits).all().item()):
            raise RuntimeError("the model gives NaN or infinity for the image itself")
        return logits.softmax(0)

    def _have(self, place: int) -> set[Cell]:
        return self._done.get(self.plan.data.items[place].id, set())

    @contextmanager
    def _warnings_of(self, row: Row) -> Iterator[None]:
        """Says each warning once, with the first map it is about."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            text = str(warning.message)
            if text not in self._said:
                self._said.add(text)
                where = f"{row.image}, {row.model}, {row.method}"
                tqdm.write(f"{where}: {text} (said once)", file=sys.stderr)


class _Explainer:
    """A method on a network, with an image's own noise."""

    def __init__(self, plan: Plan, subject: Subject, method: str, place: int) -> None:
        self._plan, self._subject, self._method = plan, subject, method
        self._options = replace(plan.options, seed=plan.image_seed(place))
        self.takes_several_targets = getattr(
            METHODS[method].attribution, "takes_several_targets", False
        )

    def __call__(self, inputs: Tensor, target: Any = None) -> Tensor:
        network, layer = self._subject.network.model, self._subject.layer
        with precision(self._plan):
            maps = METHODS[self._method].attribute(
                network, layer, inputs, target, self._options
            )
        return maps.float()


class _Remembering:
    """An explainer that answers the same inputs and target once."""

    def __init__(self, explainer: _Explainer) -> None:
        self._explainer = explainer
        self._asked: list[Tensor] = []
        self._maps: Tensor | None = None

    def __call__(self, inputs: Tensor, target: Any) -> Tensor:
        asked = [inputs.clone(), torch.as_tensor(target, device="cpu")]
        if self._maps is None or not all(map(torch.equal, asked, self._asked)):
            self._maps = self._explainer(inputs, target)
            self._asked = asked
        return self._maps


def precision(plan: Plan) -> torch.autocast:
    """Returns the context in which networks run."""
    return torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=plan.autocast)


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def _said_of(error: Exception) -> str:
    """Returns an error in one line, or raises one that is not about the image."""
    text = " ".join(str(error).split())
    # Not every sign of too large a chunk: what fails with one row fails again.
    lost = ("CUDA error", "out of memory", "DataLoader worker", "can't allocate memory")
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(
        sign in text for sign in lost
    ):
        raise OSError(
            f"the device failed ({text[:300]}). Nothing is lost: the same command goes "
            "on from there, with a smaller --internal-batch-size if memory ran out."
        ) from error
    return f"{type(error).__name__}: {text}"[:1000]


def _index(label: int | str | None) -> int | None:
    return label if isinstance(label, int) else None
