import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from captum_iscam.metrics import quantus_explain_func


def small_model():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12, 5)
    ).eval()


@pytest.mark.parametrize("convert", [torch.as_tensor, np.asarray])
def test_maps_come_as_an_array_of_the_inputs_size(convert):
    model, images, targets = small_model(), torch.rand(2, 3, 8, 10), [1, 4]
    explain = quantus_explain_func(lambda model: LayerGradCam(model, model[0]))

    found = explain(model, convert(images), convert(targets), device="cpu", other=1)

    raw = LayerGradCam(model, model[0]).attribute(images, target=targets)
    expected = nn.functional.interpolate(raw, (8, 10), mode="bilinear").detach()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_the_method_is_built_on_the_model_at_hand():
    built = []

    class Method:
        def __init__(self, model):
            built.append(model)

        def attribute(self, inputs, target, scale):
            return inputs[:, :1] * scale

    explain = quantus_explain_func(Method, scale=3)
    first, second = small_model(), small_model().double()

    explain(first, np.ones((1, 3, 8, 10)), np.array([0]))
    array = explain(second, np.ones((1, 3, 8, 10)), np.array([0]))

    assert built == [first, second]
    assert np.array_equal(array, np.full((1, 1, 8, 10), 3, dtype=np.float32))


def test_quantus_itself_takes_the_function():
    quantus = pytest.importorskip("quantus")
    model, images = small_model(), np.random.default_rng(0).random((2, 3, 8, 10))
    metric = quantus.Sparseness(disable_warnings=True, display_progressbar=False)

    values = metric(
        model=model,
        x_batch=images.astype(np.float32),
        y_batch=np.array([1, 4]),
        explain_func=quantus_explain_func(lambda m: LayerGradCam(m, m[0])),
        device="cpu",
    )

    assert np.isfinite(values).all()
