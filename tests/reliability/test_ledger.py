import json

from reliability.ledger import Ledger


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
