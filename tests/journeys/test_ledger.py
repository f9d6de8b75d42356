import json

import pytest
from reference.ledger import Ledger

from experiments import reliability


@pytest.fixture
def maker():
    """The script that makes the table of the page."""
    return reliability


def test_cases_of_one_promise_are_summed(tmp_path):
    ledger = Ledger()
    ledger.survived("Faults", "A promise.", 2)
    ledger.survived("Load", "Another.", 1, "0.0 bytes a call")
    ledger.survived("Faults", "A promise.", 3)

    ledger.save(tmp_path / "record.json")

    assert json.loads((tmp_path / "record.json").read_text()) == {
        "lines": [
            {"part": "Faults", "promise": "A promise.", "cases": 5, "figure": ""},
            {
                "part": "Load",
                "promise": "Another.",
                "cases": 1,
                "figure": "0.0 bytes a call",
            },
        ]
    }


def test_a_skip_stands_below_the_table_with_its_reason(maker, tmp_path):
    file = tmp_path / "test_some.py"
    file.write_text(
        "import pytest\n\n\ndef test_one():\n    pytest.skip('needs a right')"
    )

    lines, skips = maker.outcome_of(file, False)

    assert lines == []
    assert len(skips) == 1
    assert "needs a right" in skips[0]
    below = maker.skipped(skips)
    assert below[0] == "Skipped, so not in the table:"
    assert below[2] == f"- {skips[0]}"
    assert maker.skipped([]) == []


def test_a_failure_leaves_no_lines(maker, tmp_path, capsys):
    (tmp_path / "test_some.py").write_text("def test_one():\n    raise ValueError")

    assert maker.outcome_of(tmp_path / "test_some.py", False) is None
    assert "ValueError" in capsys.readouterr().err


def test_memory_is_measured_before_anything_else_runs(maker, tmp_path, monkeypatch):
    ran = []

    def outcome_of(file, extended):
        ran.append(file.name)
        return [], []

    monkeypatch.setattr(maker, "outcome_of", outcome_of)
    monkeypatch.setattr("sys.argv", ["reliability.py", str(tmp_path / "table.md")])

    maker.main()

    assert ran[0] == maker.ALONE
    assert sorted(ran) == sorted(file.name for file in maker.tests())
