import itertools

import pytest

from captum_iscam._utils.progress import progress


@pytest.fixture
def seconds(monkeypatch):
    """Lets a number of seconds pass between two looks at the clock."""

    def pass_by(step):
        clock = itertools.count(step=step)
        monkeypatch.setattr("time.monotonic", clock.__next__)

    return pass_by


def test_without_a_terminal_a_long_run_prints_a_line_a_minute_and_the_last(
    seconds, capsys
):
    seconds(16)

    with progress(20, "map") as bar:
        for _ in range(20):
            bar.update()

    said = capsys.readouterr().err.splitlines()
    assert said[0] == "4/20 maps,  0.06 map/s, 04:16 left"
    assert 3 <= len(said) <= 8
    assert said[-1].startswith("20/20 maps, ")
    assert said[-1].endswith(", 00:00 left")


def test_a_short_run_prints_nothing(seconds, capsys):
    seconds(1)

    with progress(3, "map") as bar:
        bar.update(3)

    assert capsys.readouterr().err == ""


def test_a_terminal_gets_one_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    with progress(3, "map") as bar:
        bar.update(3)
        bar.refresh()

    assert "3/3 maps" in capsys.readouterr().err
