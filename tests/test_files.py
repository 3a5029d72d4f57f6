"""Files that are written whole or not at all."""

import os
import stat

import pytest

from sotopia_gym.files import write_whole


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_cannot_be_made_whole_is_as_it_was(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_whole(path, [b"one, ", b"two"])
    assert path.read_bytes() == b"one, two"

    def breaking():
        yield b"three"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, breaking())
    assert path.read_bytes() == b"one, two"
    assert list(path.parent.iterdir()) == [path]


def test_who_may_read_a_file_is_what_it_was_and_else_the_users_choice(tmp_path):
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "private", [b"x"])
    finally:
        os.umask(before)
    assert mode(tmp_path / "private") == 0o600
    write_whole(tmp_path / "private", [b"y"])
    assert mode(tmp_path / "private") == 0o600
