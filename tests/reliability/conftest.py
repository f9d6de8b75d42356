import contextlib
import io
import multiprocessing
from pathlib import Path

import pytest
from reliability.explaining import command, explain_alone, explain_until, weights_in

from captum_iscam.cli.main import main


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return weights_in(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def start(weights):
    """Starts an explanation in a process of its own, which has imported everything.

    It ends at a step of the writing, if one is given.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["reliability.explaining", "captum_iscam.cli.explain"]
    )

    def begin(out, files, step=None):
        words, work = (weights, out, files), explain_alone
        if step is not None:
            words, work = (step, *words, "1"), explain_until
        process = context.Process(target=work, args=words)
        process.start()
        return process

    return begin


@pytest.fixture
def explain_files(weights, tmp_path):
    """Explains files into "out"; returns the exit code and what was said of errors."""

    def run(*files, out: Path = tmp_path / "out"):
        said = io.StringIO()
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            code = main(command(weights, out, files))
        return code, said.getvalue()

    return run
