"""The table of metrics: each asks its function what it is for."""

import math

import pytest
import torch

from captum_iscam import metrics
from captum_iscam.benchmark.metric_registry import (
    METRICS,
    MetricContext,
    find_metrics,
    with_settings,
)
from captum_iscam.demo import load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS, Options


@pytest.fixture(scope="module")
def context():
    model, scene = load_network(), load_scenes()[0]
    inputs, target = preprocess(scene.image), scene.labels[0]

    def explain(inputs, target):
        return METHODS["grad-cam"].attribute(
            model, model.features, inputs, target, Options()
        )

    return MetricContext(
        model=model,
        inputs=inputs,
        attributions=explain(inputs, target),
        target=target,
        other_target=scene.labels[1],
        mask=scene.masks[:1].unsqueeze(0),
        explain=explain,
        explain_again=explain,
        seed=5,
    )


def noise():
    return torch.Generator().manual_seed(5)


SCORED = ("average_drop", "average_increase", "average_gain", "insertion", "deletion")
NOISY = ("road", "road_most_relevant_first", "road_least_relevant_first", "infidelity")
ON_OBJECT = (
    "energy_pointing_game", "pointing_game", "mask_iou", "top_k_intersection"
)  # fmt: skip


def expected(name, q):
    metric = getattr(metrics, name)
    asked = (q.model, q.inputs, q.attributions, q.target)
    if name in SCORED:
        return metric(*asked)
    if name in NOISY:
        return metric(*asked, generator=noise())
    if name in ON_OBJECT:
        return metric(q.attributions, q.mask)
    return {
        "complexity": lambda: metric(q.attributions, size=(96, 96)),
        "sparseness": lambda: metric(q.attributions, size=(96, 96)),
        "coherency": lambda: metric(q.explain, *asked[1:]),
        "adcc": lambda: metric(*asked, explanation_func=q.explain),
        "sensitivity_max": lambda: metric(
            q.explain, q.inputs, q.target, generator=noise()
        ),
        "parameter_randomization": lambda: metric(
            q.explain, q.model, q.inputs, q.target, generator=noise()
        ).rank_correlation.mean(),
        "target_sensitivity": lambda: metric(
            q.explain, q.inputs, q.target, other_target=q.other_target
        ),
    }[name]()


@pytest.mark.parametrize("name", METRICS)
def test_a_measure_is_the_metric_with_its_defaults(name, context):
    result = METRICS[name].evaluate(context)

    assert result.value == expected(name, context).item()
    assert (result.scores is not None) == (name in ("insertion", "deletion"))


def test_every_metric_of_a_map_is_in_the_table():
    functions = {
        name for name in metrics.__all__ if hasattr(getattr(metrics, name), "unit")
    }

    # A rate needs two methods: the summary's wins say it for all pairs.
    assert set(METRICS) == functions - {"win_rate"}


def test_curves_belong_to_their_values(context):
    result = METRICS["deletion"].evaluate(context)

    area = torch.trapezoid(torch.tensor(result.scores), torch.tensor(result.fractions))
    assert area.item() == pytest.approx(result.value, abs=1e-6)
    assert (result.fractions[0], result.fractions[-1]) == (0, 1)


@pytest.mark.parametrize("name", METRICS)
def test_settings_are_those_of_the_function(name):
    settings = METRICS[name].settings

    assert not {"generator", "internal_batch_size", "return_curves"} & set(settings)
    if name in SCORED + NOISY:
        assert settings["score"] == "softmax"


def test_chosen_settings_reach_the_metric(context):
    chosen = with_settings(METRICS, {"steps": 3, "substrate": "blur"})

    result = chosen["insertion"].evaluate(context)

    curves = metrics.insertion(
        context.model,
        context.inputs,
        context.attributions,
        context.target,
        steps=3,
        substrate="blur",
        return_curves=True,
    )
    assert result.scores == curves.scores[0].tolist()
    assert "steps" not in chosen["average_drop"].settings


@pytest.mark.parametrize("name", ["insertion", "sparseness", "pointing_game"])
def test_a_map_of_nan_has_no_value(name, context):
    broken = MetricContext(
        **{
            **vars(context),
            "attributions": torch.full_like(context.attributions, math.nan),
        }
    )

    assert METRICS[name].evaluate(broken) == (None, None, None)


def test_an_object_that_is_not_marked_has_no_value(context):
    unmarked = MetricContext(**{**vars(context), "mask": None})

    assert METRICS["mask_iou"].evaluate(unmarked).value is None


def test_groups():
    default, everything, sanity = (
        set(find_metrics(name, has_regions=True)) for name in (None, "all", "sanity")
    )

    assert default < everything
    assert everything | sanity == set(METRICS)
    assert not everything & sanity
    assert set(ON_OBJECT) < default
    assert not set(ON_OBJECT) & set(find_metrics("all", has_regions=False))


def test_measures_are_in_the_order_asked_for_once():
    found = find_metrics("road, Insertion,road,", has_regions=False)

    assert list(found) == ["road", "insertion"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("insertoin", r"got 'insertoin'\. Known are: average_drop"),
        ("mask_iou", "got 'mask_iou', which needs boxes or masks"),
        ("localisation", "got 'localisation'"),
        (",", "got ','"),
    ],
)
def test_unknown_or_unanswerable_metrics_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        find_metrics(names, has_regions=False)
