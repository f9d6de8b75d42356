"""A benchmark's folder as a page of the documentation, with its rows as a table.

    python -m experiments.quality.publish FOLDER docs/results/NAME.md \
        --title ... --made-by ...

writes the summary without the wins, without the names of folders, and
`experiments/results/rows/NAME.csv.gz`: every value of every image, which is all that
the tables are made of. No picture is taken along.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
from pathlib import Path

from captum_iscam.benchmark.storage import SUMMARY_MARKDOWN, read_rows
from captum_iscam.benchmark.summary import summarise

COLUMNS = (
    *("image", "model", "method", "metric", "value"),
    *("target", "label", "prediction", "probability", "error"),
)
ROWS = Path(__file__).parents[1] / "results" / "rows"
_WINS = re.compile(r"### Wins\n.*?(?=\n## |\Z)", re.DOTALL)


def page(folder: Path, title: str, made_by: str) -> str:
    """Returns the tables, below a title, and the settings of the run."""
    content = summarise(folder).content
    text = (folder / SUMMARY_MARKDOWN).read_text(encoding="utf-8")
    tables, _, _ = text.partition("\n## The run")
    tables = _WINS.sub("", tables.partition("\n\n")[2])
    run = json.dumps(without_folders(content["run"]), indent=1)
    description = f"Explanations measured: {title}. Drop, insertion, deletion and more."
    blocks = [
        f'---\nmyst:\n  html_meta:\n    description: "{description}"\n---',
        f"# {title}",
        f"Made by\n\n```text\n{made_by}\n```",
        "and `experiments/quality/publish.py`. Every value is in "
        f"`experiments/results/rows/{folder.name}.csv.gz`.",
        tables.strip(),
        "## The run",
        f"```{{code-block}} json\n:class: long\n{run}\n```",
    ]
    return "\n\n".join(blocks) + "\n"


def without_folders(run: dict[str, object]) -> dict[str, object]:
    """Returns the record without the command, the place of the data and long lists."""
    kept = {name: value for name, value in run.items() if name != "command"}
    kept["models"] = {
        name: {k: v for k, v in model.items() if k != "class_names"}
        for name, model in kept["models"].items()
    }
    data = dict(kept["data"])
    data["path"] = Path(str(data["path"])).name
    return {**kept, "data": data}


def write_rows(folder: Path, file: Path) -> None:
    """Writes the values, in an order that does not depend on who made them."""
    rows = sorted(read_rows(folder), key=lambda row: row.key)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = [getattr(row, name) for name in COLUMNS]
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) else value for value in values
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    # No time of writing inside, so that the same rows give the same file.
    file.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def main() -> None:
    """Writes the page and the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--made-by", required=True, help="the command, for readers")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page(args.folder, args.title, args.made_by))
    write_rows(args.folder, ROWS / f"{args.folder.name}.csv.gz")


if __name__ == "__main__":
    main()
