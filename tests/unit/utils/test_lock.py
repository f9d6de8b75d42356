"""The file that keeps other runs out of a folder, and what may stand in its place."""

import errno
import os

import pytest

from captum_iscam._utils.files import LOCK, locked


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"precious")
    (tmp_path / LOCK).symlink_to("secret")

    with pytest.raises(OSError, match=r"lock cannot be written"), locked(tmp_path):
        pass

    assert (tmp_path / "secret").read_bytes() == b"precious"


@pytest.mark.parametrize("content", [b"mine", b"12 apples\n", b"\xff", b"1" * 100])
def test_a_foreign_file_in_the_place_of_the_lock_is_left_alone(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)

    with pytest.raises(ValueError, match=r"something else. Rename"), locked(tmp_path):
        pass

    assert (tmp_path / LOCK).read_bytes() == content


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / LOCK)

    with pytest.raises(ValueError, match=r"something else. Rename"), locked(tmp_path):
        pass


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"])
def test_a_file_system_without_locks_can_be_written(tmp_path, monkeypatch, name):
    def fails(*_):
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr("fcntl.lockf", fails)

    with locked(tmp_path):
        (tmp_path / "written").touch()

    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("name", ["EACCES", "EAGAIN"])
def test_a_lock_that_another_has_is_told_from_one_that_is_not_there(
    tmp_path, monkeypatch, name
):
    def fails(*_):
        raise OSError(getattr(errno, name), name)

    (tmp_path / LOCK).write_bytes(b"123\n")
    monkeypatch.setattr("fcntl.lockf", fails)

    with pytest.raises(ValueError, match=r"process 123 is at work"), locked(tmp_path):
        pass
