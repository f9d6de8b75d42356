"""Chunks: their first size, what shrinks them, and what is remembered."""

import copy
import gc
import pickle
import threading
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from captum_iscam._utils import batching
from captum_iscam._utils.batching import (
    Chunks,
    free_memory,
    is_out_of_memory,
    synchronize,
)

CUDA = torch.device("cuda", 1)
GIB = 1 << 30
IMAGE = 4 * 3 * 224 * 224

LACKS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: out of memory",
    "HIP out of memory. Tried to allocate 2.00 GiB",
    "XPU out of memory. Tried to allocate 2.00 GiB",
    "MPS backend out of memory (MPS allocated: 9.00 GB)",
    "Invalid buffer size: 19.14 GB",
    "[enforce fail] DefaultCPUAllocator: can't allocate memory",
    "[enforce fail] DefaultCPUAllocator: not enough memory",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if ...",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "GET was unable to find an engine to execute this computation",
    "Expected canUse32BitIndexMath(input) && canUse32BitIndexMath(output) to be true",
    "input tensor must fit into 32-bit index math",
    "upsample_bilinear2d only supports output tensors with less than INT_MAX elements",
    "level_zero backend failed (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
]
OTHERS = [
    "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
    "CUDA error: device-side assert triggered",
    "forward_func must return finite scores, got nan",
    "",
]
ERRORS = [
    *map(RuntimeError, LACKS),
    torch.cuda.OutOfMemoryError("no words that are known"),
]


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    monkeypatch.setattr(batching, "_forced", type(batching._forced)())


def fake(*shape, device=CUDA, dtype=torch.float32):
    """A tensor without memory that says it is on a device."""
    with FakeTensorMode():
        return torch.empty(shape, device=device, dtype=dtype)


def with_free(monkeypatch, free, reserved=0, allocated=0):
    asked = []

    def mem_get_info(device):
        asked.append(device)
        return free, 80 * GIB

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    return asked


def run(chunks, most, total=64, error=None):
    """Runs a body that has memory for `most` items; returns the sizes it was given."""
    sizes = []

    def body(start, stop):
        sizes.append(stop - start)
        if stop - start > most:
            raise error or RuntimeError(LACKS[0])

    chunks.run(total, body)
    return sizes


def shrunk(most=3, x=None, **options):
    """The sizes in which 64 items are done, and how many warnings came."""
    x = torch.rand(1, 3, 64, 64) if x is None else x
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sizes = run(Chunks(None, [x], **options), most)
    return sizes, len(caught)


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_sign_of_lacking_memory_halves_the_chunk(error):
    chunks = Chunks(None, [torch.rand(1, 3, 224, 224)])

    with pytest.warns(RuntimeWarning, match="ran out with 8 .* going on with 4"):
        sizes = run(chunks, 2, 8, error)

    assert sizes == [8, 4, 2, 2, 2, 2]
    assert is_out_of_memory(error)


@pytest.mark.parametrize("text", OTHERS)
def test_other_errors_are_raised_at_once(text):
    chunks, error = Chunks(None, [torch.rand(1, 3, 224, 224)]), RuntimeError(text)

    with pytest.raises(RuntimeError) as caught:
        run(chunks, 2, 8, error)

    assert caught.value is error
    assert chunks.size == 8
    assert not is_out_of_memory(error)


def test_what_is_no_error_of_torch_is_no_lack_of_memory():
    assert not is_out_of_memory(ValueError(LACKS[0]))


def test_one_item_that_does_not_fit_is_the_models_own_error():
    net = nn.Identity()
    error = RuntimeError(LACKS[0])

    with (
        pytest.warns(RuntimeWarning, match="Memory ran out"),
        pytest.raises(RuntimeError, match="CUDA out of memory") as caught,
    ):
        run(Chunks(None, [torch.rand(1, 3, 8, 8)], forward_func=net), 0, 64, error)

    assert caught.value is error
    # Memory may be there the next time; one item at a time is no size that fitted.
    assert shrunk(forward_func=net, x=torch.rand(1, 3, 8, 8))[0][0] == 64


def test_a_size_that_was_given_is_kept():
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        run(Chunks(8, [torch.rand(1, 3, 8, 8)]), 4)


def test_a_size_that_memory_forced_is_remembered():
    net = nn.Identity()

    assert shrunk(forward_func=net) == ([64, 32, 16, 8, 4, *[2] * 32], 1)
    assert shrunk(forward_func=net) == ([2] * 32, 0)
    # Less memory than before is found out again, without another word.
    assert shrunk(most=1, forward_func=net) == ([2, *[1] * 64], 0)
    assert shrunk(forward_func=net) == ([1] * 64, 0)


def test_a_size_that_was_given_is_not_the_one_that_was_remembered():
    net, x = nn.Identity(), torch.rand(1, 3, 64, 64)
    shrunk(forward_func=net)

    assert Chunks(40, [x], forward_func=net).size == 40
    assert run(Chunks(40, [x], forward_func=net), 40) == [40, 24]


def test_a_size_without_a_shrink_is_not_remembered():
    net = nn.Identity()

    assert shrunk(most=64, forward_func=net) == ([64], 0)
    assert len(batching._forced) == 0


@pytest.mark.parametrize(
    ("other", "known"),
    [
        ({}, True),
        ({"x": torch.rand(5, 3, 64, 64)}, True),  # as many examples as one likes
        ({"x": torch.rand(1, 3, 64, 63)}, False),
        ({"x": torch.rand(1, 3, 64, 64).double()}, False),
        ({"x": torch.rand(1, 3, 64, 64, device="meta")}, False),
        ({"layer": nn.Identity()}, False),
        ({"layer": None}, False),
        ({"forward_func": nn.Identity()}, False),
        ({"forward_func": None}, False),
    ],
    ids=["same", "batch", "shape", "dtype", "device", "layer", "none", "model", "who"],
)
def test_a_size_is_remembered_for_what_it_depends_on(other, known):
    net, layer = nn.Identity(), nn.Identity()
    shrunk(forward_func=net, layer=layer)

    sizes, _ = shrunk(**{"forward_func": net, "layer": layer, **other})

    assert (sizes[0] == 2) == known


def test_a_size_is_remembered_for_a_list_of_layers():
    net, layers = nn.Identity(), [nn.Identity(), nn.Identity()]
    shrunk(forward_func=net, layer=layers)

    assert shrunk(forward_func=net, layer=list(layers))[1] == 0
    assert shrunk(forward_func=net, layer=layers[:1])[1] == 1


def test_models_and_layers_are_forgotten_with_their_last_reference():
    net, layer = nn.Sequential(nn.Identity()), nn.Identity()
    shrunk(forward_func=net, layer=layer)
    (sizes,) = batching._forced.values()
    ((layers, _),) = sizes

    del layer
    gc.collect()
    assert [one() for one in layers] == [None]
    assert len(batching._forced) == 1
    del net
    gc.collect()
    assert len(batching._forced) == 0


class Slots:
    """A callable to which no weak reference can be made."""

    __slots__ = ()

    def __call__(self, x):
        return x


class Unhashable(nn.Module):
    def __eq__(self, other):
        return self is other


@pytest.mark.parametrize(
    "model", [Slots(), Unhashable(), None], ids=["slots", "unhashable", "none"]
)
def test_what_cannot_be_referred_to_is_not_remembered(model):
    assert shrunk(forward_func=model)[1] == 1
    assert shrunk(forward_func=model) == ([64, 32, 16, 8, 4, *[2] * 32], 1)


def test_functions_and_partial_ones_are_remembered():
    function = partial(nn.functional.softmax, dim=1)
    shrunk(forward_func=function)

    assert shrunk(forward_func=function)[1] == 0
    assert shrunk(forward_func=run)[1] == 1
    assert shrunk(forward_func=run)[1] == 0


def test_nothing_is_stored_on_the_model():
    net = nn.Conv2d(3, 2, 1)
    before, attributes = pickle.dumps(net), set(vars(net))

    shrunk(forward_func=net, layer=net)

    assert pickle.dumps(net) == before
    assert set(vars(net)) == attributes
    assert not net._forward_hooks
    # A copy is a model of its own.
    assert shrunk(forward_func=copy.deepcopy(net), layer=net)[1] == 1


def test_threads_remember_for_models_of_their_own():
    """Eight threads, each with forty models that come and go, and one that stays."""
    kept, failures = nn.Identity(), []
    x = torch.rand(1, 3, 64, 64)

    def work(most):
        try:
            for _ in range(40):
                net = nn.Identity()
                run(Chunks(None, [x], forward_func=net), most)
                assert run(Chunks(None, [x], forward_func=net), most)[0] <= most
                run(Chunks(None, [x], forward_func=kept), 3)
        except Exception as error:  # noqa: BLE001 - a thread raises nowhere else
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2, 10)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert not failures
    gc.collect()
    assert list(batching._forced) == [kept]
    assert Chunks(None, [x], forward_func=kept).size == 2


@pytest.mark.parametrize(
    ("gib", "size"),
    # A quarter is left, and an item may take 200 times its bytes.
    [(80, 256), (40, 256), (30, 128), (8, 32), (1, 4), (0, 1)],
)
def test_the_first_chunk_fits_the_free_memory_of_the_device(monkeypatch, gib, size):
    asked = with_free(monkeypatch, gib * GIB)

    chunks = Chunks(None, [fake(2, 3, 224, 224)])

    assert chunks.size == size
    assert size == 256 or 2 * size * 200 * IMAGE > 0.75 * gib * GIB
    assert asked == [CUDA]


def test_all_inputs_take_memory(monkeypatch):
    with_free(monkeypatch, 8 * GIB)
    x = fake(1, 3, 224, 224)

    assert Chunks(None, [x] * 5).size == 8
    assert Chunks(None, [fake(1, 3, 224, 224, dtype=torch.float64)]).size == 16
    # As many as today where there is room for more.
    assert Chunks(None, [fake(1, 1, 8, 8)]).size == 1024


def test_memory_that_the_allocator_holds_unused_is_free(monkeypatch):
    with_free(monkeypatch, 1 * GIB, reserved=9 * GIB, allocated=2 * GIB)

    assert free_memory(CUDA) == 8 * GIB


def test_a_size_that_was_given_asks_for_no_free_memory(monkeypatch):
    asked = with_free(monkeypatch, 0)

    assert Chunks(77, [fake(1, 3, 224, 224)]).size == 77
    assert not asked


@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
def test_where_the_free_memory_is_unknown_the_largest_chunk_comes_first(
    monkeypatch, error
):
    def mem_get_info(device):
        raise error("this device does not say")

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)

    assert free_memory(CUDA) is None
    assert Chunks(None, [fake(1, 3, 224, 224)]).size == 256


@pytest.mark.parametrize("kind", ["cpu", "meta"])
def test_other_devices_do_not_say_what_is_free(kind):
    assert free_memory(torch.device(kind)) is None


def test_free_memory_of_other_accelerators(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 7)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 3)
    for name, value in [
        ("mem_get_info", (5, 9)),
        ("memory_reserved", 4),
        ("memory_allocated", 1),
    ]:
        monkeypatch.setattr(torch.xpu, name, lambda _, value=value: value)

    assert free_memory(torch.device("mps")) == 4
    assert free_memory(torch.device("xpu", 0)) == 8


def convolve(chunks, width, count=2, dtype=torch.float32):
    """Runs the first pass of a convolution within `fitted_to`, returns the size."""
    with FakeTensorMode():
        x = torch.empty(count, 3, 224, 224, device=CUDA, dtype=dtype)
        model = nn.Conv2d(3, width, 1, device=CUDA, dtype=dtype)
        with chunks.fitted_to(model, count):
            model(x)
    return chunks.size


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("width", "size"),
    # Each channel takes four times a third of an image; an image at least 24 times.
    [(3, 128), (18, 128), (38, 64), (64, 32), (1000, 4), (10000, 1)],
)
def test_the_chunk_suits_the_widest_convolution(monkeypatch, width, size, count):
    with_free(monkeypatch, 4 * GIB)
    chunks = Chunks(None, [fake(count, 3, 224, 224)])
    assert chunks.size == 16

    assert convolve(chunks, width, count) == size


def test_a_model_that_is_not_measured_keeps_its_first_chunk(monkeypatch):
    with_free(monkeypatch, 4 * GIB)
    chunks = Chunks(None, [fake(2, 3, 224, 224)])

    with chunks.fitted_to(lambda x: x, 2):
        pass

    assert chunks.size == 16


def test_a_size_that_memory_forced_is_the_most_that_a_chunk_becomes(monkeypatch):
    with_free(monkeypatch, 40 * GIB)
    net, x = nn.Identity(), fake(2, 3, 224, 224)
    first = Chunks(None, [x], forward_func=net)
    with pytest.warns(RuntimeWarning, match="ran out with 64"):
        run(first, 20)
    assert convolve(first, 3) == 16

    chunks = Chunks(None, [x], forward_func=net)

    assert chunks.size == 16
    assert convolve(chunks, 3) == 16
    # And where less is free than when it was remembered, still less.
    with_free(monkeypatch, 1 * GIB)
    assert Chunks(None, [x], forward_func=net).size == 4


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps", "xpu"])
def test_cached_memory_of_the_device_in_use_is_handed_back(monkeypatch, kind):
    emptied = []
    for other in ("cuda", "mps", "xpu"):
        monkeypatch.setattr(
            getattr(torch, other), "empty_cache", lambda k=other: emptied.append(k)
        )
    monkeypatch.setattr(batching, "free_memory", lambda device: None)

    with pytest.warns(RuntimeWarning, match="Memory ran out"):
        run(Chunks(None, [fake(1, 3, 64, 64, device=kind)]), 32)

    assert set(emptied) == {kind, "cuda"} - {"cpu"}


@pytest.mark.parametrize(
    ("device", "called"),
    [
        ("cpu", []),
        ("meta", []),
        ("cuda:1", [("cuda", CUDA)]),
        ("xpu:1", [("xpu", torch.device("xpu", 1))]),
        ("mps", [("mps",)]),
    ],
)
def test_the_device_in_use_is_waited_for(monkeypatch, device, called):
    calls = []
    for kind in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(
            getattr(torch, kind),
            "synchronize",
            lambda *where, kind=kind: calls.append((kind, *where)),
        )

    synchronize(torch.device(device))

    assert calls == called
