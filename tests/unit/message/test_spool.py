"""Files without a name: what is in them, and that nothing of them stays."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.message.spool import PIECE_OCTETS, Spool, SpooledContent, SpoolFile

WRITE = "mailferry.message.spool._File.write"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    made = Spool(folder, 1000, reserve_octets=0)
    made.prepare()
    return made


def written(spool: Spool, *pieces: bytes) -> SpooledContent:
    file = spool.new_file()
    for piece in pieces:
        file.write(piece)
    content = file.content()
    assert content is not None, file.failure
    return content


def open_files(folder: Path) -> int:
    """How many files of the spool this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith(f"{folder}/")
        except OSError:  # the one that lists this folder
            continue
    return found


def test_a_file_has_no_name_and_nobody_else_may_look(spool: Spool, folder: Path) -> None:
    content = written(spool, b"secret\r\n")
    assert open_files(folder) == 1
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert b"".join(content.pieces()) == b"secret\r\n"


def test_it_ends_with_the_last_who_refers_to_it(spool: Spool, folder: Path) -> None:
    content = written(spool, b"one" * PIECE_OCTETS)
    pieces = content.pieces()
    next(pieces)
    del content
    assert open_files(folder) == 1, "somebody still reads"
    assert len(b"".join(pieces)) == 2 * PIECE_OCTETS
    del pieces
    assert open_files(folder) == 0


@pytest.mark.parametrize("way", ["discarded", "dropped", "failed"])
def test_a_file_that_is_not_finished_is_closed(
    spool: Spool, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spool.new_file()
    file.write(b"half of it")
    if way == "discarded":
        file.discard()
    elif way == "failed":
        monkeypatch.setattr(WRITE, _no_space)
        file.write(b"more")
    else:
        del file
    assert open_files(folder) == 0


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_is_told_at_the_end(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spool.new_file()
    file.write(b"12345")
    with monkeypatch.context() as patch:
        patch.setattr(WRITE, _no_space)
        file.write(b"67890")
    file.write(b"and on")
    assert file.content() is None
    assert file.failure == f"cannot be spooled: {folder}: No space left on device"
    assert file.octets == 16, "what is let go counts too: the deadline asks how much came"


def test_some_of_the_disk_is_left_to_the_ledger(folder: Path) -> None:
    folder.mkdir(parents=True)
    spool = Spool(folder, 1000, reserve_octets=1 << 60)
    file = spool.new_file()
    file.write(b"x")
    assert "No space left" in file.failure
    assert (file.content(), open_files(folder)) == (None, 0)


def test_a_folder_that_was_cleared_away_is_made_again(spool: Spool, folder: Path) -> None:
    folder.rmdir()
    assert len(written(spool, b"x")) == 1


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    file = Spool(tmp_path / "spool", 1000).new_file()
    file.write(b"x")
    assert "cannot be spooled" in file.failure
    assert file.content() is None


def test_a_start_clears_away_what_a_crash_left(spool: Spool, folder: Path) -> None:
    (folder / "0123.spool").write_bytes(b"left")
    (folder / "notes").write_bytes(b"not ours")
    spool.prepare()
    assert [path.name for path in folder.iterdir()] == ["notes"]


def test_a_start_without_a_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="spool"):
        Spool(tmp_path / "file" / "spool", 1000).prepare()


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_a_file_system_without_nameless_files_will_do(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    really = os.open

    def without(path: object, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, os.strerror(number))
        return really(path, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr("mailferry.message.spool.os.open", without)
    content = written(spool, b"all the same")
    assert list(folder.iterdir()) == []
    assert content.head(3) == b"all"


def test_a_file_that_lost_octets_is_not_read_as_a_shorter_message(spool: Spool) -> None:
    content = written(spool, b"x" * 100)
    os.truncate(content._file._descriptor, 50)
    assert content.head(50) == b"x" * 50
    with pytest.raises(OSError, match="shorter"):
        list(content.pieces())


def test_what_was_handed_out_is_not_written_to_any_more(spool: Spool) -> None:
    file: SpoolFile = spool.new_file()
    file.write(b"whole")
    content = file.content()
    file.write(b" and more")
    assert content is not None
    assert b"".join(content.pieces()) == b"whole"
    assert file.content() is None
