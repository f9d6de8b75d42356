import contextlib
import io
from pathlib import Path

import pytest
from reliability.explaining import command, weights_in

from captum_iscam.cli import main


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return weights_in(tmp_path_factory.mktemp("weights"))


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
