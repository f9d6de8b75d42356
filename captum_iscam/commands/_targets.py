"""Which classes to explain."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from torch import Tensor

from captum_iscam.commands._record import Target


class TargetChoice:
    """What was asked for with `--target`, to be answered for each picture.

    Args:
        wanted (str or None): A class name, an index, or "topN" for the N most probable;
            None is "top1".
        classes (Sequence[str]): The names of all classes.

    Raises:
        ValueError: If there is no such class.
    """

    def __init__(self, wanted: str | None, classes: Sequence[str]) -> None:
        self._classes = classes
        text = (wanted or "top1").strip()
        top = re.fullmatch(r"top-?(\d+)", text, re.IGNORECASE)
        self._top = int(top[1]) if top else 0
        self._index = -1 if top else self._find(text)
        if top and not 1 <= self._top <= len(classes):
            raise ValueError(
                f"target must be top1 to top{len(classes)}, got {text!r}. "
                "It counts the most probable classes."
            )
        self.count = self._top or 1

    def of(self, probabilities: Tensor) -> list[Target]:
        """Returns the targets for a picture with these class probabilities `(C,)`."""
        indices = [self._index]
        if self._top:
            indices = probabilities.topk(self._top).indices.tolist()
        return [
            Target(index, self._classes[index], float(probabilities[index]))
            for index in indices
        ]

    def _find(self, text: str) -> int:
        classes = self._classes
        if re.fullmatch(r"-?\d+", text):
            if not 0 <= int(text) < len(classes):
                raise ValueError(
                    f"target must be an index from 0 to {len(classes) - 1}, got "
                    f"{text}. The model knows {len(classes)} classes."
                )
            return int(text)
        folded = [name.casefold() for name in classes]
        if text.casefold() in folded:
            return folded.index(text.casefold())
        alike = difflib.get_close_matches(text.casefold(), folded, n=5)
        near = [i for i, name in enumerate(folded) if text.casefold() in name][:10]
        near += [folded.index(name) for name in alike]
        named = near or range(min(5, len(classes)))
        listed = ", ".join(f"{classes[i]} ({i})" for i in dict.fromkeys(named))
        raise ValueError(
            f"target must be a class, an index or topN, got {text!r}. "
            f"{'Close to it' if near else 'Classes begin with'}: {listed}."
        )
