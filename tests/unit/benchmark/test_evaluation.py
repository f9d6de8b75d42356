"""The method that metrics of a map share."""

import torch

from captum_iscam.benchmark.evaluation import CachedExplainer


def test_a_metric_that_writes_to_a_map_writes_to_its_own():
    calls = []

    def explain(inputs, target):
        calls.append(target)
        return inputs + target

    cached, inputs = CachedExplainer(explain), torch.rand(1, 1, 3, 3)
    cached(inputs, 2).zero_()

    assert torch.equal(cached(inputs, 2), inputs + 2)
    assert calls == [2]
    cached(inputs, 3)
    assert calls == [2, 3]
