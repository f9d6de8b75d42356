"""Text from strangers on the page of the report: it stays text."""

import csv
import re
from dataclasses import replace

import numpy as np
from PIL import Image
from reference.benchmark_folders import (
    declare,
    image_rows,
    write_pictures,
    write_records,
    write_run,
)
from reference.benchmark_runs import run
from reference.pages import cards, names

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.report.page import write_report
from captum_iscam.demo import CLASSES

PROMISE = "Names of files and classes, and tables, stay text in the report's page."
EVIL = "<img src=x onerror=window.hit=1>"
CLOSING = "</script><script>window.hit=2</script>\"'`${1}&amp;<!--"
CLOSED = "</textarea></style></title>--><b>bold</b>"
# No slashes, so that each may be the name of a file.
HOSTILE = [
    EVIL,
    "<script>window.hit=3<",
    '"><img src=x onerror=window.hit=4>',
    "' onmouseover='window.hit=5' x='",
    "&lt;b&gt;bold",
    "<svg onload=window.hit=6>",
    "{{data}}",
    "${window.hit=7}`",
    "\\u003cb\\u003e",
    "javascript:window.hit=8",
    "<iframe srcdoc='<b>'>",
    "=1+1|cmd",
    "<!--",
    "]]>",
    "<base href=x>",
]


def evil_folder(path):
    """Every string that comes from outside tries to become markup."""
    run = declare(
        3,
        models=(f"net{EVIL}\"'",),
        methods={"a'\"<b>": f"A{EVIL}", "c": f"C{CLOSING}"},
        classes=(f"cat{EVIL}", f"dog{CLOSING}", "owl"),
    )
    model = f"net{EVIL}\"'"
    for i, image in enumerate(run["data"]["images"]):
        image["id"] = f"{i}{EVIL if i else CLOSING}"
    run["notes"] = [EVIL, CLOSING]
    run["command"] = ["captum-iscam", EVIL, CLOSING]
    run["models"][model]["layer"] = CLOSING
    run["metrics"][f"m{EVIL}"] = {"higher_is_better": True, "unit": f"u{EVIL}"}
    write_run(path, run)
    rows = []
    for i in range(2):
        values = {"insertion": [0.5, 0.4], f"m{EVIL}": [0.1, 0.2]}
        rows += image_rows(run, i, values, model)
    rows[0] = replace(rows[0], value=None, error=f"failed {EVIL} {CLOSING}")
    rows.append(storage.Row(run["data"]["images"][2]["id"], error=EVIL + CLOSING))
    write_records(path, storage.ROWS, rows)
    rng = np.random.default_rng(0)
    safe = {**run, "models": {}}
    write_pictures(path, safe, rng)
    write_report(path)
    return run


def test_no_text_becomes_markup(visit, tmp_path, ledger):
    run = evil_folder(tmp_path)

    page = visit(tmp_path)
    page.select_option("#show", index=1)
    page.select_option("#metric", index=1)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.wait_for_timeout(200)

    assert page.evaluate("window.hit") is None
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("b").count() == 0
    assert cards(page) == [image["id"] for image in run["data"]["images"]]
    assert names(page, "#means-table")[:2] == [f"A{EVIL}", f"C{CLOSING}"]
    text = page.locator("body").inner_text()
    assert f"failed {EVIL} {CLOSING}" in text
    assert page.locator("#notes p").all_inner_texts() == [EVIL, CLOSING]
    assert f"predicted cat{EVIL}" in text
    tried = {text for text in texts(run) if "<" in text}
    tried |= {r.error for r in storage.read_rows(tmp_path) if r.error}
    ledger.survived("Files", PROMISE, len(tried))


def texts(value):
    """Returns every text in a record, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for text in texts(pair))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in texts(item))


def test_names_of_files_classes_and_tables_stay_text(visit, tmp_path, ledger):
    data = tmp_path / "data"
    data.mkdir()
    images = [f"{number}{text}.png" for number, text in enumerate(HOSTILE)]
    with (data / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "class_index", "class_name"])
        for number, (name, text) in enumerate(zip(images, HOSTILE, strict=True)):
            table.writerow([name, number % len(CLASSES), text])
    for name in images[:-1]:
        Image.new("RGB", (30, 20), "red").save(data / name, "PNG")
    words = ["--data", data, "--model", "scene-net", "--samples", len(images)]
    words += ["--metric", "sparseness", "--note", EVIL, "--note", CLOSED]
    code, said = run(tmp_path / "out", *words)
    assert code == 0, said

    page = visit(tmp_path / "out")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.wait_for_timeout(200)

    assert page.evaluate("window.hit") is None
    assert page.locator("img[src='x'], svg[onload], iframe, b, base").count() == 0
    shown = cards(page) + turned(page)
    assert shown == images
    classes = page.locator("#class option").all_inner_texts()
    # A class of several names has the last of them.
    assert set(HOSTILE) <= {text.rpartition(" (")[0] for text in classes}
    assert page.locator("#notes p").all_inner_texts() == [EVIL, CLOSED]
    markdown = (tmp_path / "out" / "summary.md").read_text().partition("## The run")[0]
    assert not re.search(r"<(img|script|svg|iframe|b|base)\b", markdown)
    ledger.survived("Files", PROMISE, 2 * len(HOSTILE) + 2)


def turned(page):
    """Returns the images of the second page of the gallery."""
    page.locator(".pager").first.get_by_role("button", name="Next").click()
    page.wait_for_function(
        "document.getElementById('status').textContent.includes('page 2')"
    )
    return cards(page)
