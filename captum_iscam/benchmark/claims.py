"""Claims that are written down before a run: their file and its checks."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from captum_iscam._utils.files import read_named, sha256
from captum_iscam._utils.validation import require_choice

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIRECTIONS = ("better", "higher", "lower")
_REPAIR = "A claim is a table [[claim]] with method, other, model, metric and margin."


@dataclass(frozen=True)
class Claim:
    """That one method differs from another by more than a margin.

    Attributes:
        method (str): The method that the claim is about.
        other (str): The method that it is compared with.
        model (str): The network.
        metric (str): The metric.
        margin (float): Differences smaller than it do not matter, in the metric's unit.
        direction (str): What the metric of `method` is said to be, on average: "better"
            than that of `other`, "higher" or "lower". Default: "better"
        layer (str): The layer of the network. Default: "", that is any
        images (str): Pattern of the images' ids, such as "val_*". Default: "*", that
            is all
    """

    method: str
    other: str
    model: str
    metric: str
    margin: float
    direction: str = "better"
    layer: str = ""
    images: str = "*"

    def __post_init__(self) -> None:
        """Raises for a margin that nothing can lie within, or an unknown direction."""
        require_choice("direction", self.direction, DIRECTIONS)
        number = isinstance(self.margin, float | int) and self.margin is not True
        if not (number and 0 < self.margin < math.inf):
            raise ValueError(
                f"margin must be a finite number above 0, got {self.margin!r}. Give "
                "the smallest difference that matters, in the metric's unit."
            )
        if self.method == self.other:
            raise ValueError(
                f"other must be another method than method, got {self.other!r} for "
                "both. Name the one to compare with."
            )


@dataclass(frozen=True)
class Claims:
    """The claims of a file.

    Attributes:
        file (Path): The file.
        sha256 (str): Its digest, by which a change after the run is noticed.
        claims (tuple[Claim, ...]): They are corrected for each other.
    """

    file: Path
    sha256: str
    claims: tuple[Claim, ...]

    def record(self) -> dict[str, Any]:
        """Returns the claims as `run.json` has them."""
        return {
            "file": self.file.name,
            "sha256": self.sha256,
            "claims": [asdict(claim) for claim in self.claims],
        }

    def names(self, what: str) -> list[str]:
        """Returns the names of what claims are about: "method", "model" or "metric"."""
        named = [getattr(claim, what) for claim in self.claims]
        if what == "method":
            named = [n for c in self.claims for n in (c.method, c.other)]
        return list(dict.fromkeys(named))


def read_claims(file: Path | str) -> Claims:
    """Returns the claims of a TOML file.

    Args:
        file (Path or str): The file, with a table `[[claim]]` for each claim.

    Raises:
        ValueError: If it cannot be read, is no TOML, has no claims, or one of them is
            not valid.
        FileNotFoundError: If it is missing.

    Examples::

        >>> import tempfile
        >>> text = '''
        ... [[claim]]
        ... method = "is-cam"
        ... other = "score-cam"
        ... model = "resnet18"
        ... metric = "insertion"
        ... margin = 0.01
        ... '''
        >>> with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        ...     _ = file.write(text)
        ...     file.flush()
        ...     read_claims(file.name).claims[0].direction
        'better'
    """
    file = Path(file)
    try:
        found = tomllib.loads(read_named(file, "claims", _REPAIR).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"claims must be a TOML file, got {str(file)!r} ({error}). {_REPAIR}"
        ) from error
    tables = found.get("claim")
    if found.keys() != {"claim"} or not isinstance(tables, list) or not tables:
        raise ValueError(
            f"claims must be tables [[claim]] and nothing else, got "
            f"{', '.join(found) or 'an empty file'} in {str(file)!r}. {_REPAIR}"
        )
    claims = []
    for number, table in enumerate(tables, 1):
        try:
            claims.append(_claim(table))
        except ValueError as error:
            raise ValueError(f"{file}, claim {number}: {error}") from error
    twice = [claim for i, claim in enumerate(claims) if claim in claims[:i]]
    if twice:
        raise ValueError(
            f"claims must differ from each other, got {twice[0]} twice. Delete one."
        )
    return Claims(file, sha256(file), tuple(claims))


def _claim(table: Any) -> Claim:
    kinds = {field.name: str(field.type) for field in fields(Claim)}
    if not isinstance(table, dict) or not table.keys() <= kinds.keys():
        unknown = sorted(set(table) - kinds.keys()) if isinstance(table, dict) else "?"
        raise ValueError(
            f"claim must have known entries, got {', '.join(unknown)}. Known are: "
            f"{', '.join(kinds)}."
        )
    missing = [name for name in list(kinds)[:5] if name not in table]
    if missing:
        raise ValueError(
            f"claim must have method, other, model, metric and margin, got none for "
            f"{', '.join(missing)}. Add it."
        )
    for name, value in table.items():
        if kinds[name] == "str" and not isinstance(value, str):
            raise ValueError(f"{name} must be a text, got {value!r}. Put it in quotes.")
    return Claim(**table)


def check_claims(claims: Sequence[Claim], run: dict[str, Any]) -> None:
    """Raises for a claim that the rows of a run cannot answer.

    Args:
        claims (Sequence[Claim]): The claims.
        run (dict): The content of `run.json`, or its names alone.

    Raises:
        ValueError: If a name of a claim is not in the run, its layer is another one,
            its metric has no direction, or its pattern fits none of the images.
    """
    ids = [image["id"] for image in run["data"]["images"]]
    for claim in claims:
        for option, name, known in (
            ("method", claim.method, run["methods"]),
            ("method", claim.other, run["methods"]),
            ("model", claim.model, run["models"]),
            ("metric", claim.metric, run["metrics"]),
        ):
            if name not in known:
                raise ValueError(
                    f"claims must name a {option} of the run, got {name!r}. The run "
                    f"has: {', '.join(known)}. Add it with --{option}."
                )
        if (
            claim.direction == "better"
            and run["metrics"][claim.metric]["higher_is_better"] is None
        ):
            raise ValueError(
                f"direction must be higher or lower for {claim.metric}, of which "
                "neither is better, got 'better'. Name it in the claim."
            )
        layer = run["models"][claim.model]["layer"]
        if claim.layer not in ("", layer):
            raise ValueError(
                f"claims must name the layer of the run, got {claim.layer!r} for "
                f"{claim.model}, which is explained at {layer!r}. Choose it with "
                "--layer."
            )
        if not any(fnmatchcase(id_, claim.images) for id_ in ids):
            raise ValueError(
                f"claims must be about images of the run, got the pattern "
                f"{claim.images!r}, which fits none. The first image is {ids[:1]}."
            )
