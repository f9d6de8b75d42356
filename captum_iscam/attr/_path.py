"""Points and weights along the path from the baseline to the input."""

from __future__ import annotations

from captum_iscam._batching import as_count
from captum_iscam._captum import SUPPORTED_METHODS, approximation_parameters

RECURRENCE = "recurrence"
# The only point of the rules with one step that Captum does not offer.
_SINGLE_STEP = {"riemann_right": 1.0, "riemann_middle": 0.5}


def path_points(
    n_steps: int, method: str, extra: tuple[str, ...] = ()
) -> list[tuple[float, float]]:
    """Returns `(t_i, w_i)`, i = 1..`n_steps`, with weights that sum to 1.

    Captum's trapezoid weights sum to `(n - 1) / n`; here they are brought to 1.

    Args:
        n_steps (int): How many points.
        method (str): A rule of Captum's `approximation_parameters`, or of `extra`.
        extra (tuple[str, ...]): Further rules that the caller knows.
    """
    known = (*SUPPORTED_METHODS, *extra)
    if method not in known:
        names = ", ".join(f'"{name}"' for name in known)
        raise ValueError(f"method must be one of {names}, got {method!r}. Choose one.")
    n_steps = as_count(
        "n_steps", n_steps, "It counts the points between baseline and input."
    )
    if n_steps == 1 and method in _SINGLE_STEP:
        return [(_SINGLE_STEP[method], 1.0)]
    if n_steps == 1 and method != "gausslegendre":
        raise ValueError(
            f'n_steps must be at least 2 for method "{method}", whose first point is '
            "the baseline, got 1. Take more steps or another method."
        )
    if method == RECURRENCE:
        return [
            (i * (i - 1) / (2 * n_steps), 1 / n_steps) for i in range(1, n_steps + 1)
        ]
    step_sizes, alphas = approximation_parameters(method)
    sizes = step_sizes(n_steps)
    return [(t, w / sum(sizes)) for t, w in zip(alphas(n_steps), sizes, strict=True)]
