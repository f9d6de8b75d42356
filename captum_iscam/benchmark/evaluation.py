"""Computes the rows of an image: a map for each method, a value for each metric.

The first images of a run may also test its metrics; :mod:`.degradation` says how.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_iscam._utils.batching import synchronize
from captum_iscam._utils.hooks import count_passes
from captum_iscam._utils.user_code import user_code
from captum_iscam.benchmark.dataloader import Loaded, Preprocessed
from captum_iscam.benchmark.degradation import degraded_maps, orders_of
from captum_iscam.benchmark.experiment import Experiment
from captum_iscam.benchmark.explained_models import ExplainedModel
from captum_iscam.benchmark.metric_spec import MetricContext
from captum_iscam.benchmark.storage import (
    COSTS,
    Cell,
    Curve,
    JudgedMap,
    Row,
    Store,
    image_key,
)
from captum_iscam.methods import METHODS
from captum_iscam.metrics._base import explain_both
from captum_iscam.networks.predictions import Prediction, predict

_UNREADABLE: Cell = (None, None, None)


class Evaluator:
    """Computes the rows of one process."""

    def __init__(
        self,
        experiment: Experiment,
        store: Store,
        done: dict[str, set[Cell]],
        tested: dict[str, set[Cell]],
    ) -> None:
        self.experiment, self._store = experiment, store
        self._done, self._tested = done, tested
        self._cells = experiment.cells()
        self._printed: set[str] = set()

    def is_done(self, index: int) -> bool:
        """Whether an image has all its rows, and has tested what it is to test."""
        present = self._present(index)
        return _UNREADABLE in present or (
            present.issuperset(self._cells)
            and not any(self._untested(m.name, index) for m in self.experiment.models)
        )

    def image(self, loaded: Loaded) -> None:
        """Writes the rows of one image that are missing."""
        item = self.experiment.data.items[loaded.index]
        base = Row(item.id, label=_index(item.label), group=item.class_name)
        if loaded.error is not None:
            self._store.add_row(replace(base, error=loaded.error))
            self._store.sync()
            return
        self._store.save_image(image_key(item.id), loaded.thumbnail)
        for explained, preprocessed in zip(
            self.experiment.models, loaded.preprocessed, strict=True
        ):
            self._rows_of_model(explained, preprocessed, base, loaded.index)
        self._done.pop(item.id, None)

    def _rows_of_model(
        self,
        explained: ExplainedModel,
        preprocessed: Preprocessed,
        base: Row,
        index: int,
    ) -> None:
        """Writes the rows of one image on one network that are missing."""
        wanted = self._wanted(explained, index)
        untested = self._untested(explained.name, index)
        if not wanted and not untested:
            return
        base = replace(base, model=explained.name)
        try:
            scores, ranked = self._predicted(explained, preprocessed)
        # Models, methods and metrics may be the user's code, which may raise anything.
        except Exception as error:  # noqa: BLE001 - recorded in the rows
            for method, metrics in wanted.items():
                self._fail(replace(base, method=method), metrics, error)
            self._fail_test(self._judged(base), untested, error)
            return
        prediction = target = ranked[0]
        if self.experiment.target_class == "true" and base.label is not None:
            target = base.label
        base = replace(
            base,
            target=target,
            prediction=prediction,
            probability=float(scores[target]),
        )
        others = [label for label in ranked if label != target]
        other = others[0] if others else target
        context_of = partial(
            self._context, explained, preprocessed, index, target, other
        )
        for method, metrics in wanted.items():
            self._method(replace(base, method=method), context_of(method), metrics)
            self._store.sync()
        if untested:
            context = context_of(str(self.experiment.tested_method))
            least = others[-1] if others else None
            self._test(self._judged(base, least), context, untested)
            self._store.sync()

    def _context(
        self,
        explained: ExplainedModel,
        preprocessed: Preprocessed,
        index: int,
        target: int,
        other: int,
        method: str,
    ) -> MetricContext:
        """Returns what metrics may need; the map is still to be made."""
        explainer = _Explainer(self.experiment, explained, method, index)
        interventions, object_masks = _interventions(preprocessed)
        inputs = preprocessed.inputs.to(self.experiment.device)
        return MetricContext(
            model=explained.network.model,
            inputs=inputs,
            attributions=inputs[:, :1],
            target=target,
            other_target=other,
            masks=self._placed(preprocessed.masks.get(target)),
            explanation_func=explainer,
            cached_explanation_func=CachedExplainer(explainer),
            seed=self.experiment.image_seed(index),
            internal_batch_size=self.experiment.options.internal_batch_size,
            interventions=self._placed(interventions),
            object_masks=self._placed(object_masks),
        )

    def _placed(self, known: Tensor | None) -> Tensor | None:
        """Returns the tensor on the device of the network."""
        return None if known is None else known.to(self.experiment.device)

    def _wanted(self, explained: ExplainedModel, index: int) -> dict[str, list[str]]:
        """Returns by method the metrics without a row."""
        present, wanted = self._present(index), dict[str, list[str]]()
        for model, method, metric in self._cells:
            if model == explained.name and (model, method, metric) not in present:
                wanted.setdefault(method, []).append(metric)
        return wanted

    def _untested(self, model: str, index: int) -> list[str]:
        """Returns the metrics of which an image has no test on a model yet."""
        if index >= self.experiment.test_metrics:
            return []
        found = self._tested.get(self.experiment.data.items[index].id, set())
        method = self.experiment.tested_method
        return [
            metric
            for metric in self.experiment.tested_metrics
            if (model, method, metric) not in found
        ]

    def _judged(self, base: Row, other: int | None = None) -> JudgedMap:
        """Returns the record of a test, without a metric and its orders."""
        method = str(self.experiment.tested_method)
        return JudgedMap(base.image, str(base.model), method, "", base.target, other)

    def _test(
        self, base: JudgedMap, context: MetricContext, metrics: Sequence[str]
    ) -> None:
        """Writes how each of these metrics orders the map and worse copies of it."""
        with warnings.catch_warnings():
            # Of a copy that is bad on purpose, they say nothing about the run.
            warnings.simplefilter("ignore")
            try:
                with user_code():
                    maps = self._degraded(context, base.other_target)
            except Exception as error:  # noqa: BLE001 - recorded in place of the orders
                self._fail_test(base, metrics, error)
                return
            for metric in metrics:
                spec = self.experiment.metrics[metric]
                try:
                    with (
                        spec.leaving_the_model(context.model),
                        precision(self.experiment),
                        user_code(),
                    ):
                        right = orders_of(spec, context, maps)
                except Exception as error:  # noqa: BLE001 - recorded
                    self._fail_test(base, [metric], error)
                else:
                    self._store.add_orders(replace(base, metric=metric, right=right))

    def _degraded(
        self, context: MetricContext, other: int | None
    ) -> dict[str, list[Tensor]]:
        """Returns a map of the method and its copies, by one call if it takes both."""
        method, inputs = context.explanation_func, context.inputs
        another = None
        if other is None:
            maps = method(inputs, target=context.target)
        else:
            maps, another = explain_both(method, inputs, (context.target, other), None)
        noise = torch.Generator().manual_seed(context.seed)
        return degraded_maps(maps, another, noise)

    def _fail_test(
        self, base: JudgedMap, metrics: Sequence[str], error: Exception
    ) -> None:
        """Writes an error in place of the orders of these metrics."""
        message = error_line(error)
        for metric in metrics:
            self._store.add_orders(replace(base, metric=metric, error=message))

    def _method(
        self, base: Row, context: MetricContext, metrics: Sequence[str]
    ) -> None:
        """Makes a map and writes the rows of these metrics."""
        try:
            with self._print_warnings(base), count_passes(context.model) as passes:
                start = _now(self.experiment.device)
                with user_code():
                    maps = context.explanation_func(
                        context.inputs.clone(), target=context.target
                    )
                seconds = _now(self.experiment.device) - start
        except Exception as error:  # noqa: BLE001 - recorded in the rows
            self._fail(base, metrics, error)
            return
        key = image_key(base.image)
        self._store.save_map(str(base.model), str(base.method), key, maps)
        costs = dict(
            zip(COSTS, (seconds, passes.rows, passes.backward_rows), strict=True)
        )
        context = replace(context, attributions=maps)
        for metric in metrics:
            row = replace(base, metric=metric)
            if metric in costs:
                row = replace(row, value=float(costs[metric]))
            else:
                row = self._measured(row, context, metric)
            self._store.add_row(row)

    def _measured(self, row: Row, context: MetricContext, metric: str) -> Row:
        """Returns the row with the metric's value; writes the curve behind it."""
        spec = self.experiment.metrics[metric]
        with spec.leaving_the_model(context.model):
            try:
                with (
                    self._print_warnings(row),
                    precision(self.experiment),
                    user_code(),
                ):
                    result = spec.evaluate(context.copied())
            except Exception as error:  # noqa: BLE001 - recorded in the row
                return replace(row, error=error_line(error))
        if result.fractions is not None and result.scores is not None:
            about = (row.image, str(row.model), str(row.method), metric)
            self._store.add_curve(Curve(*about, result.fractions, result.scores))
        return replace(row, value=result.value)

    def _fail(self, base: Row, metrics: Sequence[str], error: Exception) -> None:
        """Writes rows with an error in place of a value."""
        message = error_line(error)
        for metric in metrics:
            self._store.add_row(replace(base, metric=metric, error=message))

    def _predicted(
        self, explained: ExplainedModel, preprocessed: Preprocessed
    ) -> Prediction:
        inputs = preprocessed.inputs.to(self.experiment.device)
        with torch.no_grad(), precision(self.experiment), user_code():
            logits: Tensor = explained.network.model(inputs)[0].float().cpu()
        if not bool(torch.isfinite(logits).all().item()):
            raise RuntimeError("the model gives NaN or infinity for the unmasked image")
        return predict(logits, self.experiment.options.score)

    def _present(self, index: int) -> set[Cell]:
        return self._done.get(self.experiment.data.items[index].id, set())

    @contextmanager
    def _print_warnings(self, row: Row) -> Iterator[None]:
        """Prints each warning once, with the first map it is about."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            text = str(warning.message)
            if text not in self._printed:
                self._printed.add(text)
                where = f"{row.image}, {row.model}, {row.method}"
                tqdm.write(f"{where}: {text} (printed once)", file=sys.stderr)


def _interventions(
    preprocessed: Preprocessed,
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Returns the input without each object in the crop, and the objects' pixels."""
    masks, without = preprocessed.masks, preprocessed.interventions
    seen = [label for label in without if label in masks]
    if not seen:
        return None, None
    return (
        torch.stack([without[label] for label in seen], 1),
        torch.cat([masks[label] for label in seen], 1),
    )


class _Explainer:
    """A method on a network, with the seed of an image."""

    def __init__(
        self, experiment: Experiment, explained: ExplainedModel, method: str, index: int
    ) -> None:
        self._experiment, self._explained, self._method = experiment, explained, method
        self._options = replace(experiment.options, seed=experiment.image_seed(index))
        self.takes_several_targets = getattr(
            METHODS[method].attribution, "takes_several_targets", False
        )

    def __call__(self, inputs: Tensor, target: Any = None) -> Tensor:
        network, layer = self._explained.network.model, self._explained.layer
        with precision(self._experiment):
            maps = METHODS[self._method].attribute(
                network, layer, inputs, target, self._options
            )
        return maps.float()


class CachedExplainer:
    """An explainer that keeps its last maps for a call with the same arguments."""

    def __init__(self, explainer: _Explainer) -> None:
        self._explainer = explainer
        self._last: list[Tensor] = []
        self._maps: Tensor | None = None

    def __call__(self, inputs: Tensor, target: Any) -> Tensor:
        """Returns the maps: the kept ones where the arguments are those of before."""
        arguments = [inputs.clone(), torch.as_tensor(target, device="cpu")]
        if self._maps is None or not all(map(torch.equal, arguments, self._last)):
            self._maps = self._explainer(inputs, target)
            self._last = arguments
        return self._maps.clone()


def precision(experiment: Experiment) -> torch.autocast:
    """Returns the context in which networks run."""
    return torch.autocast(
        experiment.device.type, dtype=torch.bfloat16, enabled=experiment.autocast
    )


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def error_line(error: Exception) -> str:
    """Returns an error as one line, or raises an error of the device."""
    text = " ".join(str(error).split())
    # These do not depend on the image: what fails here fails for every image.
    device_errors = (
        "CUDA error",
        "out of memory",
        "DataLoader worker",
        "can't allocate memory",
    )
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(
        sign in text for sign in device_errors
    ):
        raise OSError(
            f"the device failed ({text[:300]}). All rows are kept: repeat the command "
            "to continue, with a smaller --internal-batch-size if memory ran out."
        ) from error
    return f"{type(error).__name__}: {text}"[:1000]


def _index(label: int | str | None) -> int | None:
    return label if isinstance(label, int) else None
