"""As many different cases as are asked for: Hypothesis by itself repeats many."""

import hashlib
from dataclasses import fields, is_dataclass

import torch
from hypothesis import HealthCheck, given, seed, settings

ROUNDS = 40


def told(value):
    """Everything that makes a case what it is, as text."""
    if isinstance(value, torch.Tensor):
        layout = value.shape, value.dtype, value.layout, value.requires_grad
        plain = torch.view_as_real(value.to_dense().detach().to(torch.complex128))
        held = hashlib.sha256(plain.numpy().tobytes()).hexdigest()
        stride = value.stride() if value.layout == torch.strided else None
        return f"{layout} {stride} {held}"
    if isinstance(value, torch.nn.Module):
        return f"{value} {told([*value.parameters()])}"
    if is_dataclass(value):
        return told({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, dict):
        return str([(key, told(one)) for key, one in value.items()])
    if isinstance(value, (list, tuple)):
        return f"{type(value)} {[told(one) for one in value]}"
    if isinstance(value, torch.Generator):
        return "generator"
    if isinstance(value, set):
        return ""  # flaws, which follow from the rest
    return getattr(value, "__name__", repr(value))


def each_distinct(strategy, count, judge):
    """Judges so many cases of a strategy, no two of them alike."""
    seen = set()
    for turn in range(ROUNDS):

        @settings(
            max_examples=max(count // 4, 50),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @seed(turn)
        @given(strategy)
        def judge_new(case):
            key = hashlib.sha256(told(case).encode()).digest()
            if key not in seen and len(seen) < count:
                judge(case)
                # Not before, since Hypothesis shows a case that failed again.
                seen.add(key)

        judge_new()
        if len(seen) >= count:
            return
    raise AssertionError(f"only {len(seen)} of {count} cases were distinct")
