"""Computes the rows of an image: a map for each method, a value for each metric."""

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
from captum_iscam._utils.forward import score_transform
from captum_iscam._utils.hooks import count_passes
from captum_iscam._utils.user_code import user_code
from captum_iscam.benchmark.dataloader import Loaded, Preprocessed
from captum_iscam.benchmark.experiment import Experiment
from captum_iscam.benchmark.explained_models import ExplainedModel
from captum_iscam.benchmark.metric_spec import MetricContext
from captum_iscam.benchmark.storage import COSTS, Cell, Curve, Row, Store, image_key
from captum_iscam.methods import METHODS

_UNREADABLE: Cell = (None, None, None)


class Evaluator:
    """Computes the rows of one process."""

    def __init__(
        self, experiment: Experiment, store: Store, done: dict[str, set[Cell]]
    ) -> None:
        self.experiment, self._store, self._done = experiment, store, done
        self._cells = experiment.cells()
        self._printed: set[str] = set()

    def is_done(self, index: int) -> bool:
        """Whether an image has all its rows."""
        present = self._present(index)
        return _UNREADABLE in present or present.issuperset(self._cells)

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
        if not wanted:
            return
        model, inputs = (
            explained.network.model,
            preprocessed.inputs.to(self.experiment.device),
        )
        base = replace(base, model=explained.name)
        try:
            probabilities = self._probabilities(model, inputs)
        # Models, methods and metrics may be the user's code, which may raise anything.
        except Exception as error:  # noqa: BLE001 - recorded in the rows
            for method, metrics in wanted.items():
                self._fail(replace(base, method=method), metrics, error)
            return
        prediction = int(probabilities.argmax())
        target = prediction
        if self.experiment.target_class == "true" and base.label is not None:
            target = base.label
        base = replace(
            base,
            target=target,
            prediction=prediction,
            probability=float(probabilities[target]),
        )
        probabilities[target] = -torch.inf
        mask = preprocessed.masks.get(target)
        interventions, object_masks = _interventions(preprocessed)
        for method, metrics in wanted.items():
            explainer = _Explainer(self.experiment, explained, method, index)
            context = MetricContext(
                model=model,
                inputs=inputs,
                attributions=inputs[:, :1],
                target=target,
                other_target=int(probabilities.argmax()),
                masks=self._placed(mask),
                explanation_func=explainer,
                cached_explanation_func=CachedExplainer(explainer),
                seed=self.experiment.image_seed(index),
                internal_batch_size=self.experiment.options.internal_batch_size,
                interventions=self._placed(interventions),
                object_masks=self._placed(object_masks),
            )
            self._method(replace(base, method=method), context, metrics)
            self._store.sync()

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

    def _probabilities(self, model: nn.Module, inputs: Tensor) -> Tensor:
        with torch.no_grad(), precision(self.experiment), user_code():
            logits: Tensor = model(inputs)[0].float().cpu()
        if not bool(torch.isfinite(logits).all().item()):
            raise RuntimeError("the model gives NaN or infinity for the unmasked image")
        score = score_transform(self.experiment.options.score or "softmax")
        return score(logits[None])[0]

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
