"""RISE: its reference, closed forms, and the promises that every method keeps."""

import inspect

import pytest
import torch
from captum.attr import LayerGradCam, NoiseTunnel, PerturbationAttribution
from reference.comparison_methods import rise, rise_masks
from reference.networks import ConvNet, TwoInputs, images
from reference.spies import Calls, LiveBytes
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_iscam import RISE
from captum_iscam.attr._random_masks import RandomMasks

TARGETS = [1, 4]
SEVERAL = [[1, 4, 4], [0, 2, 3]]  # three of each example
EXACT = {"rtol": 0, "atol": 1e-9}
GRIDS = {1: (4,), 2: (3, 5), 3: (2, 4, 3)}


def seeded(number=7):
    return torch.Generator().manual_seed(number)


class Operations(TorchDispatchMode):
    """Counts the operations of some names."""

    def __init__(self, *names):
        super().__init__()
        self._names = names
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in self._names
        return func(*args, **(kwargs or {}))


def run(model, x, target=None, score="softmax", **options):
    own = {"n_masks": 12, "grid": 3, "generator": seeded()}
    return RISE(model, score=score).attribute(x, target, **{**own, **options})


@pytest.fixture
def net():
    return ConvNet().double()


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("keep_probability", [0.1, 0.5])
@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_rise_is_the_slow_reference(spatial, keep_probability, baseline):
    net, x = ConvNet(spatial).double(), images(spatial=spatial)
    grid = GRIDS[spatial]

    ours = run(
        net,
        x,
        TARGETS,
        n_masks=20,
        grid=grid,
        keep_probability=keep_probability,
        baselines=baseline,
    )

    masks = rise_masks(tuple(x.shape[2:]), 20, grid, keep_probability, 7)
    expected = [
        rise(net, row, target, masks, keep_probability, baseline=baseline)
        for row, target in zip(x, TARGETS, strict=True)
    ]
    assert ours.shape == (2, 1, *x.shape[2:])
    torch.testing.assert_close(ours[:, 0], torch.stack(expected), **EXACT)


@pytest.mark.parametrize("score", ["sigmoid", "identity", lambda out: out.tanh()])
def test_scores(net, score):
    x = images(1)

    ours = run(net, x, 2, score)

    masks = rise_masks(tuple(x.shape[2:]), 12, (3, 3), 0.5, 7)
    expected = rise(net, x[0], 2, masks, 0.5, score)
    torch.testing.assert_close(ours[0, 0], expected, **EXACT)


def test_masks_that_keep_everything_give_the_score_everywhere(net):
    x = images(2)

    out = run(net, x, TARGETS, n_masks=3, keep_probability=1.0)

    scores = net(x).softmax(1)[[0, 1], TARGETS]
    torch.testing.assert_close(out, scores.view(2, 1, 1, 1).expand_as(out))


def test_masks_lie_in_the_unit_interval_and_keep_their_share():
    masks = run(
        lambda x: x.amax((1, 2, 3)) * 0 + 1,
        torch.zeros(1, 3, 32, 48).double(),
        score="identity",
        n_masks=4000,
        grid=7,
        keep_probability=0.3,
    )

    # A constant score of 1: the mean mask over p, which is 1 up to the scatter of a
    # mean over 4000 masks.
    assert masks.mean() == pytest.approx(1, abs=0.02)
    assert (masks - 1).abs().max() < 0.15


def test_one_pixel_counts_where_it_is(net):
    x = torch.ones(1, 1, 20, 26, dtype=torch.float64)

    def model(z):
        return z[:, 0, 4, 19]

    out = run(model, x, score="identity", n_masks=2000, grid=6)[0, 0]

    # E[M(p) M(q)] is largest at p itself; far away it is p^2 over p.
    assert divmod(int(out.argmax()), 26) == pytest.approx((4, 19), abs=2)
    assert out[14:, :8].mean() == pytest.approx(0.5, abs=0.05)
    assert out[4, 19] > 0.6


def test_a_batch_gives_what_one_by_one_gives(net):
    x = images(3)

    together = run(net, x, [1, 4, 2])

    alone = [run(net, x[n : n + 1], t) for n, t in enumerate([1, 4, 2])]
    torch.testing.assert_close(together, torch.cat(alone), **EXACT)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_chunk_size_bounds_the_passes_and_changes_no_map(net, size):
    x, model = images(3), Calls(net)

    out = run(model, x, [1, 4, 2], internal_batch_size=size)

    torch.testing.assert_close(out, run(net, x, [1, 4, 2]), **EXACT)
    assert max(model.rows[1:]) == min(size, 36)
    assert sum(model.rows) == 3 * 3 + (1 if size < 3 else 3) + 36


def test_memory_does_not_grow_with_the_masks():
    net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 3))
    x = torch.rand(1, 3, 64, 64)
    peaks = []
    for n_masks in (20, 400):
        with LiveBytes() as live:
            run(net.eval(), x, 1, n_masks=n_masks, internal_batch_size=4)
        peaks.append(live.peak)

    assert peaks[1] - peaks[0] < 380 * 100  # cells and shifts, far from a mask each


def test_masks_depend_on_the_generator_alone(net):
    x = images(2)
    first = run(net, x, 1)
    before = torch.get_rng_state()

    assert torch.equal(run(net, x, 1), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.allclose(run(net, x, 1, generator=seeded(8)), first)
    torch.manual_seed(7)
    assert torch.equal(run(net, x, 1, generator=None), first)


@pytest.mark.parametrize(
    "target",
    [2, [2, 2], torch.tensor([2, 2]), torch.tensor(2), (2,)],
    ids=str,
)
def test_target_forms(net, target):
    torch.testing.assert_close(
        run(net, images(), target), run(net, images(), 2), **EXACT
    )


@pytest.mark.parametrize("size", [None, 1, 3, 5])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_several_targets_are_what_as_many_calls_give(spatial, size):
    net, x = ConvNet(spatial).double(), images(spatial=spatial)
    model = Calls(net)
    options = {"internal_batch_size": size, "grid": GRIDS[spatial], "baselines": 0.3}

    together = run(model, x, SEVERAL, **options)

    alone = [run(net, x, list(t), **options) for t in zip(*SEVERAL, strict=True)]
    assert together.shape == (2, 3, *x.shape[2:])
    torch.testing.assert_close(together, torch.cat(alone, 1), rtol=0, atol=1e-12)
    assert sum(model.rows) == 3 * 2 + (1 if size == 1 else 3) + 24


@pytest.mark.parametrize(
    "target",
    [torch.tensor(SEVERAL), torch.tensor(SEVERAL, dtype=torch.int32), SEVERAL],
    ids=["tensor", "short", "list"],
)
def test_forms_of_several_targets(net, target):
    expected = run(net, images(), SEVERAL)

    assert torch.equal(run(net, images(), target), expected)


def test_one_row_of_targets_stands_for_all_examples(net):
    out = run(net, images(3), [[4, 0]])

    assert torch.equal(out, run(net, images(3), [[4, 0]] * 3))
    assert out.shape == (3, 2, 11, 14)
    # A row of one class gives one map, as the class itself.
    torch.testing.assert_close(
        run(net, images(3), [[4]]), run(net, images(3), 4), **EXACT
    )


def test_several_targets_of_several_inputs():
    model = TwoInputs().double()
    x, other, vector = images(2), images(2)[:, :, :8, :6], torch.rand(2, 4).double()
    options = {"additional_forward_args": vector}

    together = run(model, (x, other), [[1, 0], [0, 1]], **options)

    for i, targets in enumerate([[1, 0], [0, 1]]):
        alone = run(model, (x, other), targets, **options)
        for several, one in zip(together, alone, strict=True):
            torch.testing.assert_close(several[:, i : i + 1], one, **EXACT)


def test_targets_share_one_product():
    counts = []
    for target in (TARGETS, SEVERAL):
        model = nn.Sequential(nn.AvgPool2d(3), nn.Flatten()).eval()
        with Operations("mm", "addmm", "bmm", "mv", "mul") as operations:
            run(model, images(), target, internal_batch_size=4)
        counts.append(operations.count)

    assert counts[0] == counts[1] > 0


def test_memory_grows_with_the_targets_by_their_sums():
    x, peaks = torch.rand(1, 3, 64, 64), []
    net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 30)).eval()
    for count in (1, 21):
        with LiveBytes() as live:
            run(net, x, [list(range(count))], n_masks=40, internal_batch_size=20)
        peaks.append(live.peak)

    # What was added up so far and what a pass adds; scores and weights are a few
    # numbers per mask.
    sums, scores = 2 * 20 * 64 * 64 * 4, (40 + 2 * 20) * 20 * 4
    assert peaks[1] - peaks[0] < sums + scores


def test_no_pass_looks_at_a_number(net):
    counts = []
    for n_masks in (4, 40):
        with Operations("_local_scalar_dense", "nonzero", "equal") as reads:
            run(net, images(), SEVERAL, n_masks=n_masks, internal_batch_size=4)
        counts.append(reads.count)

    assert counts[0] == counts[1]


@pytest.mark.parametrize("target", [1, TARGETS, SEVERAL], ids=str)
def test_the_default_device_does_not_matter(net, target):
    x = images()
    expected = run(net, x, target)

    torch.manual_seed(7)
    with torch.device("meta"):
        out = run(net, x, target, generator=None)

    assert torch.equal(out, expected)


def test_masks_are_drawn_on_the_cpu_wherever_the_model_is():
    state = torch.get_rng_state()

    masks = RandomMasks(5, (3, 3), 0.5, None, torch.device("meta"))

    assert masks.make(0, 5, images().to("meta")).is_meta
    assert not torch.equal(torch.get_rng_state(), state)


def test_several_inputs_share_their_masks():
    model = TwoInputs().double()
    x, other, vector = images(2), images(2)[:, :, :8, :6], torch.rand(2, 4).double()

    first, second = run(
        lambda a, b, v: model(a, b, v), (x, other), 1, additional_forward_args=vector
    )

    assert (first.shape, second.shape) == ((2, 1, 11, 14), (2, 1, 8, 6))
    total = torch.zeros_like(first[0, 0])
    large, small = (rise_masks(size, 12, (3, 3), 0.5, 7) for size in ((11, 14), (8, 6)))
    for one, two in zip(large, small, strict=True):
        out = model(one * x[:1], two * other[:1], vector[:1])
        total += out.softmax(1)[0, 1].detach() * one
    torch.testing.assert_close(first[0, 0], total / 6, **EXACT)


def test_a_tuple_of_one_input_gives_a_tuple(net):
    out = run(net, (images(),), 1)

    assert isinstance(out, tuple)
    torch.testing.assert_close(out[0], run(net, images(), 1), **EXACT)


def test_nothing_of_the_callers_changes(net):
    x = images(2).requires_grad_()
    kept = x.detach().clone()

    out = run(net, x, 1)

    assert torch.equal(x, kept)
    assert x.grad is None
    assert not out.requires_grad
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types(net, dtype):
    expected = run(net, images(), 1)

    out = run(net.to(dtype), images().to(dtype), 1)

    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.05 * expected.norm()


def test_autocast_compiled_and_parallel_models(net):
    x = images()
    expected = run(net, x, 1)

    torch.testing.assert_close(run(nn.DataParallel(net), x, 1), expected, **EXACT)
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(run(compiled, x, 1), expected, **EXACT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(net.float(), x.float(), 1)
    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.05 * expected.norm()


def test_autocast_rounds_no_sum():
    x = images(1, dtype=torch.float32)
    expected = run(lambda z: z.abs().sum((1, 2, 3)), x, score="identity")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(lambda z: z.abs().sum((1, 2, 3)), x, score="identity")

    torch.testing.assert_close(out, expected)


def test_inference_mode_and_noise_tunnel(net):
    x = images()
    with torch.inference_mode():
        out = run(net, x, 1).clone()

    torch.testing.assert_close(out, run(net, x, 1), **EXACT)
    smooth = NoiseTunnel(RISE(net)).attribute(
        x, nt_type="smoothgrad", nt_samples=2, stdevs=0.0, target=1, n_masks=2, grid=2
    )
    assert smooth.shape == (2, 1, 11, 14)


def test_it_is_captums():
    ours = inspect.signature(RISE.attribute).parameters

    assert issubclass(RISE, PerturbationAttribution)
    assert RISE.get_name() == "RISE"
    assert RISE.takes_several_targets
    assert not RISE(len).multiplies_by_inputs
    assert (
        list(ours)[:4] == list(inspect.signature(LayerGradCam.attribute).parameters)[:4]
    )
    assert hasattr(RISE.attribute, "__wrapped__")
    assert all(
        ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(ours)[4:]
    )


def test_memory_running_out_draws_no_other_masks(net):
    def small_device(x):
        if len(x) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return net(x)

    with pytest.warns(RuntimeWarning, match="Memory ran out"):
        out = run(small_device, images(), 1)

    expected = run(net, images(), 1)
    torch.testing.assert_close(out, expected, **EXACT)
    # The second map starts with the rows that fitted, and says no more of it.
    torch.testing.assert_close(run(small_device, images(), 1), expected, **EXACT)


def test_a_chunk_suits_the_widest_convolution():
    class Wide(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.widen = nn.Conv2d(3, width, 1)

        def forward(self, x):
            return self.widen(x).mean((2, 3))

    sizes = []
    for width in (3, 1000):
        model = Wide(width).eval()
        model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        run(model, torch.rand(1, 3, 64, 64), 1, n_masks=100)

    assert sizes == [1, 3, 1, 98, 2, 1, 3, 1] + [4] * 25


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_masks": 0}, "n_masks must be an integer of at least 1, got 0"),
        ({"n_masks": 2.0}, "n_masks must be an integer of at least 1, got 2.0"),
        ({"keep_probability": 0}, "keep_probability must be above 0 and .* got 0"),
        ({"keep_probability": 1.5}, "keep_probability must be above 0 .* got 1.5"),
        ({"keep_probability": "a"}, "keep_probability must be above 0 .* got 'a'"),
        ({"grid": 0}, "grid must be an integer of at least 1, .* got 0"),
        ({"grid": (3,)}, r"one for each of the 2 spatial dimensions, got \(3,\)"),
        ({"grid": (3, 2.0)}, r"one for each of the 2 spatial .* got \(3, 2.0\)"),
        ({"target": 5}, "target must be an index from 0 to 4, got 5"),
        ({"target": None}, "target must pick one number per example"),
        ({"baselines": (0, 0)}, "baselines must hold one entry per input"),
        ({"internal_batch_size": 0}, "internal_batch_size must be an integer"),
    ],
)
def test_bad_arguments_are_refused_before_any_masked_pass(net, options, match):
    model = Calls(net)

    with pytest.raises(ValueError, match=match):
        run(model, images(), **{"target": 1, **options})

    assert len(model.rows) <= 1


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (torch.rand(2, 4), ValueError, "inputs must have positions to be masked"),
        ((images(), torch.rand(2, 4)), ValueError, "as many each.*additional_forward"),
        (images().long(), TypeError, r"inputs must be floating point.*inputs\.float"),
        ([1.0], TypeError, "inputs must be a tensor or a tuple of tensors"),
    ],
    ids=["vectors", "mixed", "integers", "list"],
)
def test_bad_inputs(net, x, error, match):
    with pytest.raises(error, match=match):
        run(net, x, 1)


def test_bad_scores_and_models(net):
    with pytest.raises(ValueError, match=r"score must be one of .*, got 'logits'"):
        RISE(net, score="logits")
    with pytest.raises(ValueError, match='Use score="sigmoid" for a single logit'):
        run(lambda x: net(x)[:, :1], images(), 0)
    with pytest.raises(TypeError, match="must return a tensor, got dict"):
        run(lambda x: {"out": net(x)}, images(), 0)
    with pytest.warns(UserWarning, match="training mode"):
        run(net.train(), images(), 1)


def test_nan_says_in_which_pass(net):
    calls = []

    def model(x):
        calls.append(len(x))
        return net(x) * (torch.nan if len(calls) == 10 else 1)

    # Six calls show the inputs and baselines; mask 1 of example 1 comes fourth.
    with pytest.raises(RuntimeError, match=r"got nan .* example 1 with mask 1"):
        run(model, images(), 1, internal_batch_size=1)
    # Looked at when all passes are done, so that none waits for a device.
    assert len(calls) == 30


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_score_of_several_that_is_not_finite(net, value):
    def model(x):
        out = net(x).clone()
        out[:, 3] = value if len(calls) == 5 else 0
        calls.append(len(x))
        return out

    calls = []
    # Five rows a pass: the third one starts with mask 5 of example 0.
    with pytest.raises(RuntimeError, match=f"got {value} .* example 0 with mask 5"):
        run(model, images(), [[1, 3], [0, 3]], "identity", internal_batch_size=5)
    calls.clear()
    # Now the first example is not asked for that class.
    with pytest.raises(RuntimeError, match=f"got {value} .* example 1 with mask 5"):
        run(model, images(), [[1, 2], [0, 3]], "identity", internal_batch_size=5)


def test_a_score_of_the_inputs_that_is_not_finite_ends_it_at_once(net):
    model = Calls(lambda x: net(x) * torch.nan)

    with pytest.raises(RuntimeError, match="got nan in the pass of the unmasked input"):
        run(model, images(), 1)

    assert model.rows == [2]


def test_a_model_may_write_every_output_to_the_same_memory(net):
    out = torch.empty(6, 5, dtype=torch.float64)

    def model(x):
        return out[: len(x)].copy_(net(x))

    found = run(model, images(), SEVERAL, "identity", internal_batch_size=6)

    torch.testing.assert_close(found, run(net, images(), SEVERAL, "identity"), **EXACT)


def test_the_progress_bar_is_on_standard_error(net, capsys):
    run(net, images(), 1, show_progress=True)

    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(net):
    expected = run(net, images(), TARGETS)

    out = run(net.cuda(), images().cuda(), TARGETS)

    assert out.is_cuda
    torch.testing.assert_close(out.cpu(), expected, **EXACT)
