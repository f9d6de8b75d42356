"""The table of metrics: each is called with what its parameters are named after."""

import math

import pytest
import torch

from captum_iscam import metrics
from captum_iscam.benchmark.metric_registry import (
    METRICS,
    find_metrics,
    metric,
    register_metric,
    with_settings,
)
from captum_iscam.benchmark.metric_spec import ARGUMENTS, MetricContext
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
        masks=scene.masks[:1].unsqueeze(0),
        explanation_func=explain,
        cached_explanation_func=explain,
        seed=5,
        interventions=preprocess(scene.without).unsqueeze(0),
        object_masks=scene.masks.unsqueeze(0),
    )


def noise():
    return torch.Generator().manual_seed(5)


SCORED = ("insertion", "deletion", "single_deletion")
HALVED = ("average_drop", "average_increase", "average_gain")
ATTAINABLE = ("attainable_insertion", "attainable_deletion")
ON_OBJECTS = ("object_order", "irrelevant_object_share")
NOISY = ("road", "road_most_relevant_first", "road_least_relevant_first", "infidelity")
ON_OBJECT = (
    "energy_pointing_game", "pointing_game", "mask_iou", "top_k_intersection"
)  # fmt: skip


def expected(name, q):
    metric = getattr(metrics, name.removesuffix("_plain").removesuffix("_blur"))
    asked = (q.model, q.inputs, q.attributions, q.target)
    objects = {"interventions": q.interventions, "object_masks": q.object_masks}
    own = {
        **{name: {} for name in (*SCORED, *ATTAINABLE)},
        **{name: {"keep": 0.5} for name in HALVED},
        **{f"{name}_plain": {} for name in HALVED},
        **dict.fromkeys(ON_OBJECTS, objects),
        "insertion_blur": {"substrate": "blur"},
        "deletion_blur": {"substrate": "blur"},
    }
    if name in own:
        return metric(*asked, **own[name])
    if name in NOISY:
        return metric(*asked, generator=noise())
    if name in ON_OBJECT:
        return metric(q.attributions, q.masks)
    return {
        "complexity": lambda: metric(q.attributions, size=(96, 96)),
        "sparseness": lambda: metric(q.attributions, size=(96, 96)),
        "coherency": lambda: metric(q.explanation_func, *asked[1:]),
        "adcc": lambda: metric(*asked, explanation_func=q.explanation_func),
        "arcc": lambda: metric(
            *asked, explanation_func=q.explanation_func, generator=noise()
        ),
        "sensitivity_max": lambda: metric(
            q.explanation_func, q.inputs, q.target, generator=noise()
        ),
        "parameter_randomization": lambda: metric(
            q.explanation_func, q.model, q.inputs, q.target, generator=noise()
        ).rank_correlation.mean(),
        "target_sensitivity": lambda: metric(
            q.explanation_func, q.inputs, q.target, other_target=q.other_target
        ),
    }[name]()


@pytest.mark.parametrize("name", METRICS)
def test_a_measure_is_the_metric_with_its_defaults(name, context):
    result = METRICS[name].evaluate(context)

    assert result.value == expected(name, context).item()
    curves = ("insertion", "deletion", "insertion_blur", "deletion_blur")
    assert (result.scores is not None) == (name in curves)


def test_every_metric_of_a_map_is_in_the_table():
    functions = {
        name for name in metrics.__all__ if hasattr(getattr(metrics, name), "unit")
    }

    # A rate needs two methods: the summary's wins say it for all pairs.
    named = {spec.metric.__name__ for spec in METRICS.values()}
    assert named == functions - {"win_rate"}


def test_curves_belong_to_their_values(context):
    result = METRICS["deletion"].evaluate(context)

    area = torch.trapezoid(torch.tensor(result.scores), torch.tensor(result.fractions))
    assert area.item() == pytest.approx(result.value, abs=1e-6)
    assert (result.fractions[0], result.fractions[-1]) == (0, 1)


@pytest.mark.parametrize("name", METRICS)
def test_settings_are_those_of_the_function(name):
    settings = METRICS[name].settings

    assert not {"generator", "internal_batch_size", "return_curves"} & set(settings)
    if name in SCORED + HALVED + NOISY:
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


def test_what_a_metric_is_registered_with_stays():
    chosen = with_settings(METRICS, {"substrate": "zero", "keep": 0.1, "steps": 3})

    assert chosen["insertion_blur"].settings["substrate"] == "blur"
    assert chosen["insertion_blur"].settings["steps"] == 3
    assert chosen["average_drop"].settings["keep"] == 0.5
    assert chosen["average_drop_plain"].settings["keep"] is None


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
    unmarked = MetricContext(**{**vars(context), "masks": None})

    assert METRICS["mask_iou"].evaluate(unmarked).value is None


@pytest.mark.parametrize("name", ON_OBJECTS)
def test_an_image_that_cannot_be_drawn_again_has_no_value(name, context):
    photograph = MetricContext(**{**vars(context), "interventions": None})

    assert METRICS[name].evaluate(photograph).value is None


def test_groups():
    default, everything, sanity = (
        set(find_metrics(name, has_regions=True, has_interventions=True))
        for name in (None, "all", "sanity")
    )

    assert default < everything
    assert everything | sanity | set(ATTAINABLE) == set(METRICS)
    assert not (everything | sanity) & set(ATTAINABLE)
    assert set(ON_OBJECTS) < default
    assert not set(ON_OBJECTS) & set(find_metrics("all", has_regions=True))
    assert not everything & sanity
    assert set(ON_OBJECT) < default
    assert not set(ON_OBJECT) & set(find_metrics("all", has_regions=False))


def test_measures_are_in_the_order_asked_for_once():
    found = find_metrics("road, Insertion,road,", has_regions=False)

    assert list(found) == ["road", "insertion"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("insertoin", r"got .insertoin.\. Did you mean insertion\? Known are: aver"),
        ("mask_iou", "got 'mask_iou', which needs boxes or masks"),
        ("object_order", "got 'object_order', which needs the images without each"),
        ("localisation", "got 'localisation'"),
        (",", "got ','"),
    ],
)
def test_unknown_or_unanswerable_metrics_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        find_metrics(names, has_regions=False)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr("captum_iscam.benchmark.metric_registry.METRICS", dict(METRICS))


@metric(higher_is_better=True, unit="share")
def mine(attributions, masks, level=0.5):
    return ((attributions > level).sum() / masks.numel()).reshape(1)


def test_a_metric_is_a_function_and_a_registration(context, table):
    register_metric(mine, "localisation", level=0.25)

    (spec,) = find_metrics("mine", has_regions=True).values()

    assert spec.settings == {"level": 0.25}
    value = mine(context.attributions, context.masks, 0.25)
    assert spec.evaluate(context).value == pytest.approx(value)
    assert "mine" in find_metrics("default", has_regions=True)
    with pytest.raises(ValueError, match="'mine', which needs boxes or masks"):
        find_metrics("mine", has_regions=False)


def test_every_argument_is_given_by_its_name(context, table):
    given = {}

    def record(**arguments):
        given.update(arguments)
        return torch.zeros(1)

    names = ", ".join(ARGUMENTS)
    space = {"record": record}
    exec(
        f"def everything({names}):\n return record("
        + ", ".join(f"{name}={name}" for name in ARGUMENTS)
        + ")",
        space,
    )
    register_metric(metric(higher_is_better=True, unit="score")(space["everything"]))

    find_metrics("everything", True, True)["everything"].evaluate(context)

    assert given["forward_func"] is given["model"] is context.model
    assert given["inputs"] is context.inputs
    assert given["masks"] is context.masks
    assert given["interventions"] is context.interventions
    assert given["object_masks"] is context.object_masks
    assert given["size"] == (96, 96)
    assert given["generator"].initial_seed() == context.seed
    assert given["return_curves"] is True


def test_a_metric_that_gets_the_map_gets_the_cached_method(context, table):
    def cached(inputs, target):
        raise AssertionError

    both = MetricContext(**{**vars(context), "cached_explanation_func": cached})
    seen = []

    @register_metric
    @metric(higher_is_better=True, unit="score")
    def with_map(attributions, explanation_func):
        seen.append(explanation_func)
        return torch.zeros(1)

    @register_metric
    @metric(higher_is_better=True, unit="score")
    def without_map(explanation_func, internal_batch_size=7):
        seen.append((explanation_func, internal_batch_size))
        return torch.zeros(1)

    for name in ("with_map", "without_map"):
        find_metrics(name, has_regions=False)[name].evaluate(both)

    # The size counts inputs of the model, which the second metric does not have.
    assert seen == [cached, (context.explanation_func, 7)]


def undeclared(attributions):
    return 0.0


@metric(higher_is_better=True, unit="share")
def asks_too_much(attributions, labels, weights):
    return 0.0


@metric(higher_is_better=True, unit="share")
def insertion(attributions):
    return 0.0


@metric(higher_is_better=True, unit="share")
def seconds(attributions):
    return 0.0


def test_a_metric_may_have_no_direction(table):
    @metric(higher_is_better=None, unit="share")
    def neutral(attributions):
        return attributions.mean((1, 2, 3))

    register_metric(neutral)

    assert find_metrics("neutral", has_regions=False)["neutral"].metric is neutral


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (undeclared, {}, "declare higher_is_better and unit, got undeclared without"),
        (asks_too_much, {}, "got labels, weights in asks_too_much. It gives attrib"),
        (asks_too_much, {"labels": 1}, "got weights in asks_too_much"),
        (mine, {"levle": 1}, "must be parameters of mine, got levle"),
        (mine, {"group": "own"}, "must be one of default, further, .* got 'own'"),
        (mine, {"name": "Mine"}, "a name in lower case, got Mine"),
        (mine, {"name": "insertion"}, "a name that no metric or group has, got insert"),
        (insertion, {}, "a name that no metric or group has, got insertion"),
        (seconds, {}, "a name that no metric or group has, got seconds"),
        (lambda attributions: 0.0, {}, "a name in lower case, got <lambda>"),
    ],
)
def test_a_metric_that_cannot_be_called_is_refused(function, settings, message, table):
    with pytest.raises(ValueError, match=message):
        register_metric(function, **settings)

    assert "mine" not in METRICS
