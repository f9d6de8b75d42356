"""What the user's code raises and changes, and what is left of it afterwards."""

import os

import pytest
import torch

from captum_iscam._utils.interrupts import Terminated
from captum_iscam._utils.user_code import user_code


class Strange(BaseException):
    pass


def change_everything(folder):
    os.chdir(folder)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)


@pytest.mark.parametrize("raised", [None, ValueError, SystemExit, KeyboardInterrupt])
def test_what_it_changes_is_restored(tmp_path, monkeypatch, raised):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside").mkdir()

    try:
        with user_code():
            change_everything(tmp_path / "inside")
            if raised:
                raise raised
    except BaseException:  # noqa: BLE001 - the next test is about what it raises
        pass

    assert os.getcwd() == str(tmp_path)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", [SystemExit(5), Strange("5"), GeneratorExit(5)])
def test_what_would_end_the_program_is_an_error(error):
    with pytest.raises(RuntimeError, match=f"{type(error).__name__}: 5"), user_code():
        raise error


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), Terminated(9)])
def test_errors_and_what_the_user_ends_it_by_are_as_they_were(error):
    with pytest.raises(type(error)), user_code():
        raise error


def test_a_working_directory_that_is_gone_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with user_code():
        pass
