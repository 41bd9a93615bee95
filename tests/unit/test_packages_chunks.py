"""A blob that is coming: what counts of an earlier try, at every byte that could matter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError
from cumulet.packages.device.chunks import Blob, Part, WrongChunkError

CHUNK = 1000
BODY = bytes(number * 7 % 251 for number in range(3456))
EDGES = [0, 1, 999, 1000, 1001, 1999, 2000, 2001, 3000, 3455, 3456]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are small here, and a disk is slow."""
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(f"os.{name}", lambda handle: None)


def make_blob(body: bytes = BODY, chunk: int = CHUNK) -> Blob:
    chunks = [hashlib.sha256(body[at : at + chunk]).hexdigest() for at in range(0, len(body), chunk)]
    return Blob("model 1", hashlib.sha256(body).hexdigest(), len(body), chunk, tuple(chunks))


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    part = Part(tmp_path, make_blob())
    yield part
    part.close()


def leave(folder: Path, data: bytes) -> None:
    (folder / f"{make_blob().sha256}.part").write_bytes(data)


@pytest.mark.parametrize("end", EDGES)
def test_a_download_goes_on_at_the_byte_where_it_ended(tmp_path: Path, end: int) -> None:
    leave(tmp_path, BODY[:end])
    part = Part(tmp_path, make_blob())
    assert (part.length, part.verified) == (end, len(BODY) if end == len(BODY) else end // CHUNK * CHUNK)
    part.write(BODY[end:])
    assert part.publish().read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == [make_blob().sha256]
    part.close()


@pytest.mark.parametrize("end", EDGES)
def test_what_was_written_before_a_kill_is_what_counts_after_it(tmp_path: Path, end: int) -> None:
    first = Part(tmp_path, make_blob())
    for at in range(0, end, 77):
        first.write(BODY[at : min(at + 77, end)])
    second = Part(tmp_path, make_blob())  # the first was never closed
    assert (second.length, second.verified) == (first.length, first.verified)
    first.close()
    second.close()


@pytest.mark.parametrize("bad", [0, 999, 1000, 1500, 2999])
def test_a_wrong_byte_of_an_earlier_try_costs_its_chunk_and_what_came_after(tmp_path: Path, bad: int) -> None:
    data = bytearray(BODY[:3000])
    data[bad] ^= 1
    leave(tmp_path, bytes(data))
    part = Part(tmp_path, make_blob())
    assert part.length == part.verified == bad // CHUNK * CHUNK
    part.write(BODY[part.length :])
    assert part.publish().read_bytes() == BODY
    part.close()


def test_a_torn_end_is_found_when_its_chunk_is_whole_and_costs_no_more_than_that(tmp_path: Path) -> None:
    leave(tmp_path, BODY[:1000] + bytes(500))
    part = Part(tmp_path, make_blob())
    assert (part.length, part.verified) == (1500, 1000)
    with pytest.raises(WrongChunkError, match="chunk 2 of 4"):
        part.write(BODY[1500:])
    assert part.length == part.verified == 1000
    part.write(BODY[1000:])
    assert part.publish().read_bytes() == BODY
    part.close()


def test_more_bytes_than_there_should_be_are_refused(part: Part) -> None:
    with pytest.raises(TargetError, match="more bytes came than the 3456"):
        part.write(BODY + b"x")


def test_a_longer_file_of_an_earlier_try_is_cut(tmp_path: Path) -> None:
    leave(tmp_path, BODY + b"more")
    part = Part(tmp_path, make_blob())
    assert part.whole
    assert part.publish().read_bytes() == BODY
    part.close()


def test_chunks_that_do_not_add_up_to_the_blob_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    blob = make_blob()
    lying = Blob(blob.name, "0" * 64, blob.size, blob.chunk, blob.chunks)
    part = Part(tmp_path, lying)
    part.write(BODY)
    with pytest.raises(TargetError, match="not those of its sha256"):
        part.publish()
    assert part.path.stat().st_size == 0
    assert not part.final.exists()
    part.close()


def test_a_full_disk_is_one_error_that_says_how_far_it_came(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    part.write(BODY[:10])
    monkeypatch.setattr("os.pwrite", refuse)
    with pytest.raises(TargetError, match="no space left on this disk, 10 of 3456 bytes came"):
        part.write(BODY[10:])
