"""The journal: what was appended is read back, crashes are repaired, disks that fail are outlived."""

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.errors import JournalError
from polycdn.journal.log import Disk, Journal, JournalLimits
from polycdn.journal.record import Entry, Published, Repaired
from polycdn.journal.scan import read, segments, verify


def entries(first: int, count: int) -> list[Entry]:
    return [Entry(at_ms, "www", Published("memory", at_ms)) for at_ms in range(first, first + count)]


def filled(folder: Path, count: int = 5) -> Path:
    """The one segment of a new journal with `count` records."""
    journal = Journal.open(folder)
    journal.append(entries(1, count))
    journal.close()
    return segments(folder)[0]


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append(entries(1, 3))
    journal.append(entries(4, 2))
    assert [record.entry for record in read(tmp_path)] == entries(1, 5)
    assert verify(tmp_path).last_hash == journal.tip.hash


def test_round_costs_one_write_and_one_fsync(tmp_path: Path) -> None:
    calls = []

    def write(fd: int, lines: bytes) -> int:
        calls.append("write")
        return os.write(fd, lines)

    journal = Journal.open(tmp_path, disk=Disk(write=write, fsync=lambda fd: calls.append("fsync")))
    journal.append(entries(1, 50))
    assert calls == ["write", "fsync"]


def test_next_start_goes_on_with_the_chain(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = Journal.open(tmp_path)
    journal.append(entries(6, 1))
    assert [record.seq for record in read(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_second_writer_is_turned_away(tmp_path: Path) -> None:
    first = Journal.open(tmp_path)
    with pytest.raises(JournalError, match="another decider"):
        Journal.open(tmp_path)
    first.close()
    Journal.open(tmp_path).close()


@given(cut_bytes=st.integers(1, 400))
def test_crash_at_any_byte_leaves_a_journal_that_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("crash")
    segment = filled(folder, 3)
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-cut_bytes])
    survivors = whole[:-cut_bytes].count(b"\n")
    journal = Journal.open(folder)
    journal.append(entries(9, 1))
    found = [record.entry for record in read(folder)]
    is_torn = not whole[:-cut_bytes].endswith(b"\n")
    repairs = [entry for entry in found if isinstance(entry.body, Repaired)]
    assert len(repairs) == is_torn
    assert found == [*entries(1, survivors), *repairs, *entries(9, 1)]
    journal.close()


def test_torn_last_line_is_reported_and_is_no_broken_chain(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-10])
    found = verify(tmp_path)
    assert found.broken == ""
    assert f"{segment}:5" in found.torn
    assert found.records == 4


def test_first_line_torn_is_repaired_too(tmp_path: Path) -> None:
    segment = filled(tmp_path, 1)
    segment.write_bytes(segment.read_bytes()[:20])
    journal = Journal.open(tmp_path)
    journal.append(entries(1, 1))
    assert next(read(tmp_path)).entry.body == Repaired(segment.name, 20)


def test_rotation_carries_the_chain_over(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, JournalLimits(segment_bytes_max=1_000))
    for turn in range(1, 30):
        if journal.is_segment_full:
            journal.rotate(entries(1_000 + turn, 1))
        journal.append(entries(turn, 1))
    found = verify(tmp_path)
    assert found.files > 3
    assert found.broken == ""
    assert found.records == found.last_seq == journal.tip.seq


def many_segments(folder: Path) -> Journal:
    journal = Journal.open(folder, JournalLimits(segment_bytes_max=1_000))
    for turn in range(1, 31):
        if journal.is_segment_full:
            journal.rotate(entries(turn, 1))
        journal.append(entries(turn, 1))
    return journal


def test_closed_segments_are_compressed_and_read_as_they_were(tmp_path: Path) -> None:
    journal = many_segments(tmp_path)
    *closed, newest = segments(tmp_path)
    assert {file.suffix for file in closed} == {".gz"}
    assert newest.suffix == ".jsonl"
    records = list(read(tmp_path))
    assert [record.seq for record in records] == list(range(1, journal.tip.seq + 1))
    assert [record.entry.at_ms for record in read(closed[0])] == [
        record.entry.at_ms for record in records[: len(list(read(closed[0])))]
    ]
    assert sum(file.stat().st_size for file in closed) < len(closed) * 1_000
    assert not list(tmp_path.glob("*.new"))


def test_segment_that_a_crash_left_both_ways_is_read_once(tmp_path: Path) -> None:
    journal = many_segments(tmp_path)
    small = segments(tmp_path)[0]
    (tmp_path / small.stem).write_bytes(gzip.decompress(small.read_bytes()))
    small.write_bytes(small.read_bytes()[:40])
    assert verify(tmp_path).broken == ""
    assert verify(tmp_path).records == journal.tip.seq
    journal.rotate(entries(99, 1))
    assert [file.suffix for file in segments(tmp_path)].count(".jsonl") == 1
    assert verify(tmp_path).broken == ""


def test_journal_whose_newest_segment_is_compressed_goes_on_in_a_new_one(tmp_path: Path) -> None:
    journal = many_segments(tmp_path)
    journal.close()
    segments(tmp_path)[-1].unlink()
    last = verify(tmp_path).last_seq
    again = Journal.open(tmp_path)
    again.append(entries(99, 1))
    assert verify(tmp_path).last_seq == last + 1
    assert verify(tmp_path).broken == ""
    assert segments(tmp_path)[-1].suffix == ".jsonl"


@pytest.mark.parametrize("damage", [lambda raw: raw[:-20], lambda raw: b"not gzip" + raw, lambda raw: b""])
def test_damaged_compressed_segment_is_named(tmp_path: Path, damage) -> None:
    many_segments(tmp_path)
    small = segments(tmp_path)[1]
    small.write_bytes(damage(small.read_bytes()))
    assert verify(tmp_path).broken


def test_full_disk_leaves_a_closed_segment_as_it_is_until_the_next_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_words, **_more) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(gzip, "compress", full)
        journal = many_segments(tmp_path)
    assert {file.suffix for file in segments(tmp_path)} == {".jsonl"}
    assert not list(tmp_path.glob("*.new"))
    journal.rotate(entries(99, 1))
    assert [file.suffix for file in segments(tmp_path)].count(".jsonl") == 1
    assert verify(tmp_path).broken == ""


def test_oldest_segments_go_when_the_journal_grows_too_large(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, JournalLimits(segment_bytes_max=1_000, total_bytes_max=3_000))
    for turn in range(1, 60):
        if journal.is_segment_full:
            journal.rotate(entries(turn, 1))
        journal.append(entries(turn, 1))
    found = verify(tmp_path)
    assert found.broken == ""
    assert found.first_seq > 1
    assert sum(file.stat().st_size for file in segments(tmp_path)) < 5_000


class FailingDisk:
    """A disk that takes `room_bytes` more and then is full."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes

    def write(self, fd: int, lines: bytes) -> int:
        if self.room_bytes <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written_bytes = os.write(fd, lines[: self.room_bytes])
        self.room_bytes -= written_bytes
        return written_bytes


@given(room_bytes=st.integers(0, 2_500))
def test_full_disk_is_a_clear_error_and_loses_only_what_was_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, room_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("full")
    disk = FailingDisk(room_bytes)
    journal = Journal.open(folder, disk=Disk(write=disk.write))
    acknowledged = 0
    for turn in range(1, 6):
        try:
            journal.append(entries(3 * turn, 3))
            acknowledged += 3
        except JournalError as error:
            assert "No space left on device" in str(error)
            assert "last plan keeps serving" in str(error)
    disk.room_bytes = 10**6
    journal.append(entries(99, 1))
    assert verify(folder).broken == ""
    assert len(list(read(folder))) == acknowledged + 1
    journal.close()


def test_rotation_on_a_full_disk_goes_on_in_the_old_segment(tmp_path: Path) -> None:
    disk = FailingDisk(10**6)
    journal = Journal.open(tmp_path, JournalLimits(segment_bytes_max=1), Disk(write=disk.write))
    journal.append(entries(1, 2))
    disk.room_bytes = 0
    with pytest.raises(JournalError, match="No space left"):
        journal.rotate(entries(3, 1))
    disk.room_bytes = 10**6
    journal.append(entries(4, 1))
    assert [record.seq for record in read(tmp_path)] == [1, 2, 3]
    assert len(segments(tmp_path)) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_whatever_the_disk_says_is_told_and_outlived(tmp_path: Path, number: int) -> None:
    is_sick = [True]

    def write(fd: int, lines: bytes) -> int:
        if is_sick[0]:
            raise OSError(number, os.strerror(number))
        return os.write(fd, lines)

    journal = Journal.open(tmp_path, disk=Disk(write=write))
    with pytest.raises(JournalError, match=os.strerror(number)):
        journal.append(entries(1, 1))
    is_sick[0] = False
    journal.append(entries(2, 1))
    assert [record.entry for record in read(tmp_path)] == entries(2, 1)


def test_failing_fsync_keeps_nothing_of_the_round(tmp_path: Path) -> None:
    is_sick = [True]

    def fsync(fd: int) -> None:
        if is_sick[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(fd)

    journal = Journal.open(tmp_path, disk=Disk(fsync=fsync))
    with pytest.raises(JournalError, match="Input/output error"):
        journal.append(entries(1, 2))
    is_sick[0] = False
    journal.append(entries(7, 1))
    assert [record.entry for record in read(tmp_path)] == entries(7, 1)


def test_folder_that_cannot_be_made_is_met_at_the_first_append_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    journal = Journal.open(tmp_path / "file" / "journal")
    with pytest.raises(JournalError, match="cannot be written"):
        journal.append(entries(1, 1))


QUOTA_STORY = """
import resource, signal, sys
from pathlib import Path
from polycdn.errors import JournalError
from polycdn.journal.log import Journal
from polycdn.journal.record import Entry, Published

resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
journal = Journal.open(Path(sys.argv[1]))
for at_ms in range(100):
    try:
        journal.append([Entry(at_ms, "www", Published("memory", at_ms))])
    except JournalError as error:
        print(error)
        break
"""


@pytest.mark.lab
def test_quota_of_the_operating_system_is_a_clear_error(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", QUOTA_STORY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=150,
    )
    assert "File too large" in ran.stdout
    assert verify(tmp_path).broken == ""
