"""What may come of a call: a map, or an error that the documentation knows."""

import functools
import inspect
import re
import warnings
from pathlib import Path

import captum_iscam

PACKAGE = str(Path(captum_iscam.__file__).parent)
# Captum checks the form of a target itself, in its own words.
CAPTUMS = re.compile("Target|target|Cannot choose target column|Output must be 2D")


@functools.cache
def raises_section(*documented):
    """Returns the names of the exceptions in the docstrings' Raises."""
    text = "\n".join(inspect.getdoc(one) or "" for one in documented)
    sections = re.findall(r"^Raises:\n((?:    .*\n|\n)*)", text + "\n", re.M)
    return set(re.findall(r"^    (\w+):", "".join(sections), re.M))


@functools.cache
def arguments_of(*documented):
    """Returns the names of the arguments."""
    return {name for one in documented for name in inspect.signature(one).parameters}


def argument_of(error, documented):
    """Returns the argument a documented error speaks of, or fails."""
    kinds, names = raises_section(*documented), arguments_of(*documented)
    # A kind of its own, which callers may catch, is documented as what it is made of.
    found = {kind.__name__ for kind in type(error).__mro__[:2]}
    assert found & kinds, f"undocumented: {error!r}"
    if isinstance(error, AssertionError):
        assert CAPTUMS.search(str(error)), f"not Captum's: {error}"
        return "target"
    found = re.match(
        r"(?:the maps of )?(\w+)[^.]*? must .+, got .+\. \S", str(error), re.S
    )
    assert found, f"not in the form of the package's errors: {error}"
    assert found[1] in names, f"no argument: {error}"
    return found[1]


def outcome(call):
    """Returns what a call gave and the error it raised, one of them None.

    Warnings must be of this package and point outside of it.
    """
    error = result = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001 - judged by the caller
            error = raised.with_traceback(None)
    for warning in caught:
        assert warning.category in (UserWarning, RuntimeWarning), warning
        assert not warning.filename.startswith(PACKAGE), warning
    return result, error
