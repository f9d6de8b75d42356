"""A command starts without what it does not need, and Ctrl-C ends it at any moment."""

import os
import signal
import subprocess
import sys

import pytest

from captum_iscam._utils import interrupts
from captum_iscam.cli.main import main

# Runs the command line, with an interrupt when a module is imported and after a line of
# the test's own; prints the libraries that were imported.
PROCESS = """
import atexit, os, runpy, signal, sys
@atexit.register
def list_libraries():
    print(*[name for name in {libraries} if name in sys.modules], file=sys.stderr)
class Interrupting:
    def find_spec(name, *_):
        if name == {at!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
{first}
sys.argv = ["captum-iscam", *{words}]
runpy.run_module("captum_iscam", run_name="__main__")
"""
LIBRARIES = ["torch", "captum", "numpy", "matplotlib", "torchvision", "PIL", "tqdm"]
LIBRARIES += ["gradio"]


def process(*words, at="", first=""):
    code = PROCESS.format(libraries=LIBRARIES, words=list(words), at=at, first=first)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["explain", "--help"],
        ["demo", "--help"],
        ["app", "--help"],
        ["benchmark", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_help_and_version_import_no_library(words):
    done = process(*words)

    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.split() == []


@pytest.mark.parametrize("module", ["argparse", "torch", "numpy", "captum"])
def test_an_interrupt_while_a_module_is_imported_leaves_no_traceback(module):
    done = process("demo", at=module)

    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_an_interrupt_while_python_shuts_down_leaves_no_traceback():
    done = process(
        "--version",
        first="atexit.register(os.kill, os.getpid(), signal.SIGINT)",
    )

    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_who_ignores_interrupts_goes_on_doing_so():
    done = process(
        "--version",
        at="argparse",
        first="signal.signal(signal.SIGINT, signal.SIG_IGN)",
    )

    assert (done.returncode, done.stderr) == (0, "\n")


def test_a_command_may_clean_up_after_an_interrupt(monkeypatch, capsys):
    cleaned = []

    def interrupted(args):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            cleaned.append(True)

    monkeypatch.setattr("captum_iscam.cli.demo.run", interrupted)
    before = signal.getsignal(signal.SIGINT)
    interrupts.leave_on_interrupt()
    leaving = signal.getsignal(signal.SIGINT)
    try:
        code = main(["demo"])
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert (code, cleaned) == (130, [True])
    assert capsys.readouterr().err == "stopped\n"
    assert after is leaving is not before


def test_a_warning_before_the_first_image_is_one_line(tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("import warnings\nwarnings.warn('from \\x1b[2J a file')\n")

    done = process("explain", "photo.png", "--model", f"{code}:model")

    lines = done.stderr.splitlines()
    assert "captum-iscam: warning: from \\x1b[2J a file" in lines
    assert not any("UserWarning" in line for line in lines)
