"""The summary for a paper, a spreadsheet and a terminal."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from reference.benchmark_folders import full_folder, rows_folder

import captum_iscam
from captum_iscam._utils.about import citation
from captum_iscam.benchmark.csv_tables import as_wide_csv
from captum_iscam.benchmark.latex import as_latex, escape
from captum_iscam.benchmark.summary import summarise
from captum_iscam.benchmark.terminal import as_text
from captum_iscam.cli.benchmark import print_results

NASTY = {
    "a": r"50% & \input{x} #1 $y$ ~^_{}",
    "b": "[t] *star* -- <b> é 中",
    "c": "*",
}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    full_folder(folder, n_images=33)
    return summarise(folder).content


def compiled(text, folder):
    """Returns the log of pdflatex, None where it is not installed."""
    program = shutil.which("pdflatex")
    if program is None:
        return None
    (folder / "summary.tex").write_text(text)
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}"
        "\\input{summary}\\end{document}"
    )
    command = [program, "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def check_structure(text):
    """Fails unless braces and environments match, and rows have the columns' number."""
    text.encode("ascii")
    bare = re.sub(r"\\[\\{}%&$#_]", "", text)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert text.count("\\begin{table}") == text.count("\\end{table}") > 0
    for tabular in re.findall(r"begin{tabular}{(.*?)\\end{tabular}\n", text, re.DOTALL):
        columns = len(re.sub("{.*?}", "", re.match("@{}(.*?)@{}", tabular)[1]))
        rows = [r for r in tabular.splitlines() if r.endswith(("\\\\", "[2pt]"))]
        assert len(rows) > 1
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == columns - 1
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in text


def test_the_tables_of_a_paper_compile_and_fit(content, tmp_path):
    text = as_latex(content)

    check_structure(text)
    log = compiled(text, tmp_path)
    assert log is None or "Overfull" not in log


def test_the_caption_says_n_seed_and_version_and_what_bold_means(content):
    content = {**content, "run": {**content["run"], "settings": {"seed": 7}}}
    content["run"]["versions"] = {"captum_iscam": "9.8.7"}

    caption = re.search(r"caption{(.*)}", as_latex(content))[1]

    for part in ("$n=33$", "95\\,\\%", "Seed 7", "9.8.7", "Bold: best mean", "net"):
        assert part in caption


def test_the_caption_says_which_class_and_which_pixels(content):
    run = json.loads(json.dumps(content["run"]))
    run["settings"]["target_class"] = "true"
    for metric in ("average_drop", "average_increase"):
        run["metrics"][metric]["settings"]["keep"] = 0.5
    captions = re.findall(r"caption{(.*)}", as_latex({**content, "run": run}))

    assert "The labelled class is explained." in captions[0]
    assert "Average drop, Average increase: keep $=0.5$." in " ".join(captions)
    assert "The predicted class is explained." in as_latex(content)
    assert "keep" not in as_latex(content)


def test_the_best_mean_is_bold_and_every_mean_has_its_interval(content):
    text = as_latex(content)

    best = [e for e in content["means"] if e["best"]]
    assert text.count("\\mathbf{") == len(best) > 0
    assert text.count("\\scriptsize") == len(content["means"])
    (entry,) = (e for e in best if (e["model"], e["metric"]) == ("net", "insertion"))
    assert f"$\\mathbf{{{entry['mean']:.3f}}}$" in text


@pytest.fixture
def claimed(tmp_path):
    """Sixteen claims on forty images: equivalent, undecided on few, and decided."""
    run = full_folder(tmp_path, n_images=40)
    first, second = list(run["methods"])[:2]
    claim = {"method": first, "other": second, "model": "net", "metric": "insertion"}
    claims = [{**claim, "margin": 1e9}, {**claim, "margin": 1e-9, "images": "*1*"}]
    claims += [
        {**claim, "other": "random-map", "margin": 1e-9 * i} for i in range(1, 15)
    ]
    run["claims"] = {"file": "my_claims.toml", "sha256": "0" * 64, "claims": claims}
    (tmp_path / "run.json").write_text(json.dumps(run))
    return summarise(tmp_path).content


def test_verdicts_stand_in_the_paper(claimed, tmp_path):
    text = as_latex(claimed)

    check_structure(text)
    log = compiled(text, tmp_path)
    assert log is None or "Overfull" not in log
    entries = claimed["claims"]
    assert [e["verdict"] for e in entries[:2]] == ["equivalent", "undecided"]
    tables = text.split("\\begin{table}")[1:3]
    assert [t.count("is better than") for t in tables] == [15, 1]
    for entry, line in zip(entries, re.findall(r"\\raggedright .*", text), strict=True):
        assert escape(entry["claim"]) in line
        assert f"& {entry['verdict']} & {entry['n']} &" in line
        assert f"${entry['mean']:+.3f}$" in line
        assert f"$[{entry['low']:+.3f}, {entry['high']:+.3f}]$" in line
    assert "my\\_claims.toml (SHA-256 000000000000)" in tables[0]
    assert "for all 16 claims, level 5\\,\\%." in tables[0]
    assert "Fewer than 30 images decide nothing." in tables[0]
    assert "dagger" not in text


def test_p_of_a_verdict_is_that_of_its_test(claimed):
    shared = {
        "verdict": "equivalent",
        "corrected_p": 1.0,
        "corrected_p_equivalent": 0.02,
    }
    equivalent = {**claimed["claims"][0], **shared}
    decided = {**equivalent, "verdict": "holds", "metric_can_judge": False}
    undecided = {**equivalent, "verdict": "undecided", "corrected_p": 1e-5}
    claims = [equivalent, {**decided, "corrected_p": 0.031}, undecided]

    text = as_latex({**claimed, "claims": claims})

    lines = re.findall(r"\\raggedright .*", text)
    ends = [line.rpartition("& ")[2] for line in lines]
    assert ends == [f"{p} \\\\" for p in ("$0.02$", "$0.031$", "$<0.001$")]
    assert ["dagger" in line for line in lines] == [False, True, False]
    assert "failed its test on this network" in text


def test_no_name_can_break_a_table(tmp_path):
    values = {"insertion": [[0.5, 0.4, 0.3]] * 30, "average_drop": [[9.0, 8.0, 1]] * 30}
    rows_folder(tmp_path, values, methods=NASTY, models=("net",))
    content = summarise(tmp_path).content

    text = as_latex(content)

    check_structure(text)
    assert "\\input" not in text
    compiled(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("\\", r"\textbackslash{}"),
        ("[x]", "{[}x]"),
        ("é ß", r"\'{e} U+00DF"),
        ("a--b", "a-{}-b"),
        ("a\nb\x07", "a bU+0007"),
    ],
)
def test_signs_of_latex_are_escaped(text, escaped):
    assert escape(text) == escaped


def test_the_wide_csv_has_a_line_per_network_and_method(content):
    lines = list(csv.DictReader(io.StringIO(as_wide_csv(content))))

    assert len(lines) == 2 * 4
    for entry in content["means"]:
        (line,) = (
            x
            for x in lines
            if (x["model"], x["method"]) == (entry["model"], entry["method"])
        )
        for field in ("mean", "low", "high", "n"):
            assert float(line[f"{entry['metric']}_{field}"]) == entry[field]
    assert lines[0]["title"] == "IS-CAM"


def test_the_terminal_shows_every_mean_within_its_width(content):
    lines = as_text(content, width=60)

    assert max(map(len, lines)) <= 60
    assert not any("<" in line for line in lines)
    assert sum(line.startswith("Insertion") for line in lines) == 2 * 2
    (best,) = (
        e
        for e in content["means"]
        if (e["model"], e["metric"], e["best"]) == ("net", "insertion", True)
    )
    assert f"{best['mean']:.3f}*" in "\n".join(lines)
    assert "*: best mean, different from that of every other method." in lines


def test_the_command_prints_at_most_forty_lines_and_where_the_rest_is(tmp_path, capsys):
    methods = {f"method-{i}": f"A method of number {i}" for i in range(12)}
    full_folder(tmp_path, n_images=3, models=("net", "other-net"), methods=methods)
    summarise(tmp_path)

    assert print_results(tmp_path) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40
    assert re.fullmatch(r"and \d+ more lines", lines[35])
    for file in ("summary.md", "summary.tex", "report.html"):
        assert any(line.endswith(str(tmp_path / file)) for line in lines[36:39])
    assert lines[39] == f"To cite: {citation(captum_iscam.__version__)}"


def test_few_images_have_no_best_anywhere(tmp_path):
    full_folder(tmp_path, n_images=12)
    content = summarise(tmp_path).content

    assert "mathbf" not in as_latex(content)
    assert "Over fewer than 30 images" in as_latex(content)
    tables = (tmp_path / "summary.md").read_text().partition("## net")[2]
    assert not re.search(r"\*\*[-+\d]", tables)
    assert "Below 30 images no mean is called the best." in as_text(content)
    assert not any("*" in line for line in as_text(content))


def test_a_metric_without_any_value_is_said(tmp_path):
    values = {"insertion": [[0.5, 0.4]] * 3, "deletion": [[None, None]] * 3}
    rows_folder(tmp_path, values, methods={"a": "A", "b": "B"})

    lines = as_text(summarise(tmp_path).content)

    said = [line for line in lines if "no value" in line]
    assert said == ["Deletion has no value on any image: it is undefined there."]


def test_a_metric_without_direction_has_no_arrow_no_best_and_no_wins(tmp_path):
    run, _ = rows_folder(
        tmp_path, {"insertion": [[0.5, 0.4]] * 30}, methods={"a": "A", "b": "B"}
    )
    run["metrics"]["insertion"]["higher_is_better"] = None
    (tmp_path / "run.json").write_text(json.dumps(run))
    content = summarise(tmp_path).content

    assert not any(entry["best"] for entry in content["means"])
    assert {pair["wins"] for pair in content["pairs"]} == {None}
    text = (tmp_path / "summary.md").read_text()
    assert "| Insertion (score) |" in text
    assert "<summary>" not in text
    assert "arrow" not in as_latex(content)
