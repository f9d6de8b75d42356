"""What every metric keeps, whatever it measures."""

import inspect
import math

import pytest
import torch
from reference.spies import LiveBytes
from torch import nn

from captum_iscam import metrics
from captum_iscam.metrics import (
    RandomMap,
    adcc,
    arcc,
    attainable_deletion,
    attainable_insertion,
    average_drop,
    average_gain,
    average_increase,
    coherency,
    complexity,
    deletion,
    energy_pointing_game,
    infidelity,
    insertion,
    irrelevant_object_share,
    object_order,
    parameter_randomization,
    road,
    road_least_relevant_first,
    road_most_relevant_first,
    sensitivity_max,
    single_deletion,
    target_sensitivity,
    win_rate,
)

HIGHER = {
    "adcc": True,
    "arcc": True,
    "attainable_deletion": True,
    "attainable_insertion": True,
    "average_drop": False,
    "average_gain": True,
    "average_increase": True,
    "coherency": True,
    "complexity": False,
    "deletion": False,
    "energy_pointing_game": True,
    "infidelity": False,
    "insertion": True,
    "irrelevant_object_share": False,
    "mask_iou": True,
    "object_order": True,
    "parameter_randomization": False,
    "pointing_game": True,
    "road": True,
    "road_least_relevant_first": True,
    "road_most_relevant_first": False,
    "sensitivity_max": False,
    "single_deletion": True,
    "sparseness": True,
    "target_sensitivity": True,
    "top_k_intersection": True,
    "win_rate": True,
}
UNITS = {
    "percent",
    "score",
    "score squared",
    "share",
    "correlation",
    "correlation distance",
    "relative change",
}


def mean_map(inputs, target):
    return inputs.mean(1, keepdim=True)


def compare_to_mean(forward_func, inputs, attributions, target=None, *args, **options):
    rival = torch.ones(len(attributions), 1, 7, 9, device=attributions.device)
    rival[..., 0] = 0
    return win_rate(
        forward_func, inputs, attributions, target, *args, rival=rival, **options
    )


def adcc_of_mean(*args, **options):
    return adcc(*args, explanation_func=mean_map, **options)


def arcc_of_mean(*args, **options):
    return with_seed(arcc)(*args, explanation_func=mean_map, **options)


def with_objects(metric):
    """Columns of the image are the objects; the first looks the same when removed."""

    def call(forward_func, inputs, *args, **options):
        tensor = isinstance(inputs, torch.Tensor)
        images = inputs if tensor else torch.as_tensor(inputs)
        width = images.shape[-1]
        masks = torch.eye(width, dtype=torch.bool, device=images.device)
        masks = masks.view(1, width, 1, width)
        masks = masks.expand(len(images), -1, 7, -1)
        without = torch.where(masks.unsqueeze(2), 0, images.unsqueeze(1)).detach()
        without[:, 0] = images.detach()
        objects = {"interventions": without, "object_masks": masks}
        return metric(forward_func, inputs, *args, **objects, **options)

    return call


def infidelity_with_seed(*args, **options):
    generator = torch.Generator().manual_seed(0)
    return infidelity(*args, generator=generator, n_perturb_samples=4, **options)


def with_seed(metric):
    def seeded(*args, **options):
        generator = torch.Generator().manual_seed(0)
        return metric(*args, generator=generator, percentiles=(30, 60), **options)

    return seeded


def in_few_steps(metric):
    def few(*args, **options):
        return metric(*args, steps=3, **options)

    return few


SCORED = {
    "average_drop": average_drop,
    "average_drop, cut": lambda *a, **k: average_drop(*a, keep=0.5, **k),
    "average_increase": average_increase,
    "average_gain": average_gain,
    "win_rate": compare_to_mean,
    "insertion": in_few_steps(insertion),
    "deletion": in_few_steps(deletion),
    "road": with_seed(road),
    "road_most_relevant_first": with_seed(road_most_relevant_first),
    "road_least_relevant_first": with_seed(road_least_relevant_first),
    "adcc": adcc_of_mean,
    "arcc": arcc_of_mean,
    "infidelity": infidelity_with_seed,
    "single_deletion": single_deletion,
    "attainable_insertion": lambda *a, **k: attainable_insertion(*a, patches=3, **k),
    "attainable_deletion": lambda *a, **k: attainable_deletion(*a, patches=3, **k),
    "object_order": with_objects(object_order),
    "irrelevant_object_share": with_objects(irrelevant_object_share),
}
OF_MEAN = (adcc_of_mean, arcc_of_mean)
OF_OBJECTS = (SCORED["object_order"], SCORED["irrelevant_object_share"])


EXPLAINING = {
    "coherency": lambda method, x, maps, target: coherency(method, x, maps, target),
    "sensitivity_max": lambda method, x, maps, target: sensitivity_max(
        method, x, target, generator=torch.Generator().manual_seed(0)
    ),
    "target_sensitivity": lambda method, x, maps, target: target_sensitivity(
        method, x, target, other_target=1
    ),
    "parameter_randomization": lambda method, x, maps, target: (
        parameter_randomization(
            method, method.model, x, target, generator=torch.Generator().manual_seed(0)
        ).ssim
    ),
}


@pytest.fixture(params=EXPLAINING.values(), ids=EXPLAINING.keys())
def explaining_metric(request):
    return request.param


class OneMemory(nn.Module):
    """A model that writes every output into the same memory."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.memory = None

    def forward(self, x):
        output = self.model(x)
        if self.memory is None:
            self.memory = torch.empty(100, *output.shape[1:], dtype=output.dtype)
        return self.memory[: len(x)].copy_(output.detach())


class OutputAsMap(nn.Module):
    """Explains a class by a channel of the output, a view of what the model returns."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, target):
        return self.model(inputs)[:, target : target + 1]


@pytest.fixture(params=SCORED.values(), ids=SCORED.keys())
def metric(request):
    return request.param


@pytest.fixture
def model():
    return (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(140, 5))
        .double()
        .eval()
    )


@pytest.fixture
def images():
    return torch.rand(4, 3, 7, 9, dtype=torch.float64)


@pytest.fixture
def maps():
    return torch.rand(4, 1, 7, 9, dtype=torch.float64)


def test_every_metric_declares_its_direction_and_its_unit():
    found = {
        name: getattr(metrics, name).higher_is_better
        for name in metrics.__all__
        if hasattr(getattr(metrics, name), "higher_is_better")
    }

    assert found == HIGHER
    assert {getattr(metrics, name).unit for name in found} == UNITS


@pytest.mark.parametrize("name", HIGHER)
def test_every_docstring_begins_with_direction_and_unit(name):
    metric = getattr(metrics, name)
    _, declared, *_ = inspect.getdoc(metric).split("\n\n")

    better = "Higher" if HIGHER[name] else "Lower"
    assert declared.startswith(f"{better} is better. Unit: ")
    assert metric.unit in declared


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_model_may_return_the_same_memory_in_every_pass(
    metric, model, images, maps, chunk
):
    plain = nn.Sequential(model, nn.Softmax(1)).eval()
    options = {"score": "identity", "internal_batch_size": chunk}
    expected = metric(plain, images, maps, 2, **options)

    found = metric(OneMemory(plain).eval(), images, maps, 2, **options)

    assert torch.equal(found, expected)


def test_a_method_may_return_the_same_memory_in_every_call(
    explaining_metric, images, maps
):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 1)).double()
    maps = maps[..., 1:-1, 1:-1]
    expected = explaining_metric(OutputAsMap(plain), images, maps, 0)

    found = explaining_metric(OutputAsMap(OneMemory(plain)), images, maps, 0)

    assert torch.equal(found, expected)


def test_nothing_but_the_scores_is_kept_of_a_pass(images, maps):
    model = nn.Sequential(nn.Flatten(), nn.Linear(189, 2000)).double().eval()

    def peak(steps):
        with LiveBytes() as live:
            insertion(
                *(model, images, maps, 2),
                steps=steps,
                score="identity",
                internal_batch_size=4,
            )
        return live.peak

    output = 4 * 2000 * 8
    assert peak(60) < peak(6) + output


def test_the_default_device_does_not_matter(metric, model, images, maps):
    targets = [0, 4, 2, 2]
    expected = metric(model, images, maps, targets)

    with torch.device("meta"):
        found = metric(model, images, maps, targets)

    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda model, x, maps: road(model, x, maps, 2),
        lambda model, x, maps: infidelity(model, x, maps, 2),
        lambda model, x, maps: sensitivity_max(mean_map, x, 2),
        lambda model, x, maps: (
            parameter_randomization(
                lambda inputs, target: model[0](inputs)[:, :1].detach(), model, x, 2
            ).ssim
        ),
        lambda model, x, maps: RandomMap(model, model[0]).attribute(x),
    ],
    ids=["road", "infidelity", "sensitivity_max", "parameter_randomization", "map"],
)
def test_numbers_are_drawn_on_the_cpu_where_there_is_no_generator(
    draw, model, images, maps
):
    torch.manual_seed(1)
    expected = draw(model, images, maps)

    torch.manual_seed(1)
    with torch.device("meta"):
        found = draw(model, images, maps)

    assert torch.equal(found, expected)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_result_does_not_depend_on_the_chunk(metric, model, images, maps, chunk):
    expected = metric(model, images, maps, 2)

    found = metric(model, images, maps, 2, internal_batch_size=chunk)

    torch.testing.assert_close(found, expected)


def test_chunks_bound_the_batch(metric, model, images, maps):
    rows = []

    def counting(x):
        rows.append(len(x))
        return model(x)

    metric(counting, images, maps, 2, internal_batch_size=3)

    assert max(rows) <= 3


def test_a_batch_gives_what_one_by_one_gives(metric, model, images, maps):
    targets = [0, 4, 2, 2]

    together = metric(model, images, maps, targets)

    alone = [
        metric(model, images[i : i + 1], maps[i : i + 1], target)
        for i, target in enumerate(targets)
    ]
    assert together.shape == (4,)
    torch.testing.assert_close(together, torch.cat(alone))


def test_target_forms_agree(metric, model, images, maps):
    expected = metric(model, images, maps, [3, 3, 3, 3])

    assert torch.equal(metric(model, images, maps, torch.tensor([3] * 4)), expected)
    assert torch.equal(metric(model, images, maps, 3), expected)


def test_additional_arguments_follow_their_example(metric, model, images, maps):
    # Above 1, so that no row looks like one of sigmoids.
    shifts = 1.5 + torch.rand(4, 5, dtype=torch.float64)

    def shifted(x, shift, factor):
        return model(x) * factor + shift

    if metric in OF_MEAN:
        pytest.skip("the method of this test takes no further arguments")
    together = metric(shifted, images, maps, 1, (shifts, 2.0), internal_batch_size=3)

    for i in range(4):
        one = slice(i, i + 1)
        alone = metric(shifted, images[one], maps[one], 1, (shifts[one], 2.0))
        torch.testing.assert_close(together[one], alone)


def test_nan_and_infinite_maps_are_nan_for_their_example(metric, model, images, maps):
    expected = metric(model, images, maps, 2)
    maps[1, 0, 3, 3], maps[3, 0, 0, 0] = math.nan, math.inf

    found = metric(model, images, maps, 2)

    assert found.isnan().tolist() == [False, True, False, True]
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])


def test_a_batch_of_nan_maps_alone_is_nan(metric, model, images, maps):
    assert metric(model, images, maps * math.nan, 2).isnan().all()


@pytest.mark.parametrize("factor", [2.0, 1e-6, 1e6])
def test_a_positive_scale_of_the_map_does_not_matter(
    metric, model, images, maps, factor
):
    expected = metric(model, images, maps, 2)

    torch.testing.assert_close(metric(model, images, factor * maps, 2), expected)


def test_layer_maps_count_as_if_upsampled_before(metric, model, images):
    if metric in OF_MEAN:
        pytest.skip("the method of this test gives maps of the input's size")
    small = torch.rand(4, 1, 3, 4, dtype=torch.float64)

    found = metric(model, images, small, 2)

    large = nn.functional.interpolate(small, (7, 9), mode="bilinear")
    torch.testing.assert_close(found, metric(model, images, large, 2))


def test_nothing_of_the_callers_changes(metric, model, images, maps):
    copies = images.clone(), maps.clone()
    state = torch.random.get_rng_state()
    images.requires_grad_()

    found = metric(model, images, maps, 2)

    assert torch.equal(images, copies[0])
    assert torch.equal(maps, copies[1])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not found.requires_grad
    assert images.grad is None
    assert not any(module._forward_hooks for module in model.modules())


def test_no_gradients_are_kept(metric, model, images, maps):
    def watching(x):
        assert not torch.is_grad_enabled()
        return model(x)

    metric(watching, images, maps, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_result_has_the_precision_of_the_model(metric, model, images, maps, dtype):
    found = metric(model.to(dtype), images.to(dtype), maps.to(dtype), 2)

    assert found.dtype is dtype


def test_half_precision_is_judged_in_single(metric, model, images, maps):
    half = torch.bfloat16
    found = metric(model.to(half), images.to(half), maps.to(half), 2)

    assert found.dtype is torch.float32
    assert found.isfinite().all()


def test_a_saturated_model_has_a_defined_result(metric, model, images, maps):
    if metric in OF_OBJECTS:
        pytest.skip("no object matters to a model that is sure without each of them")

    def sure(x):
        return model(x) * 1e4

    assert metric(sure, images, maps, sure(images).argmax(1)).isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "attributions", "match"),
    [
        ((4, 3, 7, 9), (3, 1, 7, 9), "one map per example, got 3 for 4"),
        ((4, 3, 7, 9), (4, 1, 7), "as many dimensions as an input"),
        ((4, 3, 7, 9), (4, 1, 8, 9), "layer's size or of the input's size"),
        ((4, 3, 7, 9), (4, 3, 7, 9), r"shape \(N, 1, ...\)"),
        ((0, 3, 7, 9), (4, 1, 7, 9), "at least one example"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(metric, model, inputs, attributions, match):
    with pytest.raises(ValueError, match=match):
        metric(
            model,
            torch.zeros(inputs, dtype=torch.float64),
            torch.zeros(attributions, dtype=torch.float64),
            2,
        )


def test_a_target_out_of_range_is_refused(metric, model, images, maps):
    with pytest.raises(ValueError, match="target must be an index from 0 to 4, got 5"):
        metric(model, images, maps, 5)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_wrong_chunk_is_refused(metric, model, images, maps, size):
    with pytest.raises(ValueError, match="internal_batch_size must be an integer"):
        metric(model, images, maps, 2, internal_batch_size=size)


SEVERAL = [torch.tensor([[2, 1], [0, 3], [2, 2], [1, 4]]), [[0, 1, 2]] * 4]


@pytest.mark.parametrize("target", SEVERAL, ids=["tensor", "list"])
def test_several_targets_are_refused(metric, model, images, maps, target):
    match = r"one class per example, got the shape \(4, .*target\[:, t\] and maps\[:, t"
    with pytest.raises(ValueError, match=match):
        metric(model, images, maps.expand(-1, 2, -1, -1), target)


@pytest.mark.parametrize("target", SEVERAL, ids=["tensor", "list"])
def test_several_targets_are_refused_before_a_method_is_called(
    explaining_metric, model, images, maps, target
):
    with pytest.raises(ValueError, match=r"one class per example, got the shape \(4, "):
        explaining_metric(OutputAsMap(model), images, maps, target)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_tensor_of_one_target_is_that_of_all(metric, model, images, maps, shape):
    target = torch.full(shape, 3)

    assert torch.equal(
        metric(model, images, maps, target), metric(model, images, maps, 3)
    )


def test_one_hot_targets_have_a_repair_of_their_own(metric, model, images, maps):
    with pytest.raises(ValueError, match=r"one-hot .* Pass target.argmax\(1\)"):
        metric(model, images, maps, torch.eye(5, dtype=torch.long)[:4])


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, x, maps: average_drop(model, x, maps, 2),
        lambda model, x, maps: complexity(maps),
        lambda model, x, maps: energy_pointing_game(maps, torch.ones(4, 7, 9)),
        lambda model, x, maps: coherency(mean_map, x, maps),
        lambda model, x, maps: sensitivity_max(lambda x, target: maps, x),
    ],
    ids=["average_drop", "complexity", "pointing", "coherency", "sensitivity_max"],
)
def test_maps_of_several_targets_are_refused_with_the_way_to_one(
    ask, model, images, maps
):
    match = r"maps\[:, t:t\+1\] with target\[:, t\] .* of several targets"
    with pytest.raises(ValueError, match=match):
        ask(model, images, maps.expand(-1, 2, -1, -1))


def test_an_unknown_score_is_refused(metric, model, images, maps):
    with pytest.raises(ValueError, match="score must be one of"):
        metric(model, images, maps, 2, score="logit")


def test_integer_images_are_refused(metric, model, maps):
    with pytest.raises(TypeError, match="inputs must be floating point"):
        metric(model, torch.zeros(4, 3, 7, 9, dtype=torch.long), maps, 2)


def test_inputs_must_be_tensors(metric, model, maps):
    with pytest.raises(TypeError, match=r"inputs must be a tensor .* got list"):
        metric(model, [[1.0]], maps, 2)


def test_nan_from_the_model_is_an_error_that_names_the_example(metric, images, maps):
    def model(x):
        scores = x.flatten(1)[:, :5].clone()
        scores[x[:, 0, 0, 0] > 2] = math.nan
        return scores

    images[2] += 3

    with pytest.raises(RuntimeError, match=r"finite scores, got nan .* example 2"):
        metric(model, images, maps, 2)


def test_probabilities_under_a_softmax_are_noticed(metric, model, images, maps):
    def probabilities(x):
        return model(x).softmax(1)

    with pytest.warns(UserWarning, match="already are probabilities"):
        metric(probabilities, images, maps, 2)


def test_training_mode_is_noticed(metric, model, images, maps):
    model.train()

    with pytest.warns(UserWarning, match="training mode"):
        metric(model, images, maps, 2)


def test_baselines_must_fit(model, images, maps):
    for wrong in (torch.zeros(4, 3, 7, 8).double(), (0, 0), torch.zeros(2, 3, 7, 9)):
        with pytest.raises(ValueError, match="baselines must"):
            average_drop(model, images, maps, 2, baselines=wrong)
    with pytest.raises(TypeError, match="baselines must be numbers or tensors"):
        average_drop(model, images, maps, 2, baselines="grey")
