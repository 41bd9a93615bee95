"""What members contribute, how it is kept, how it is merged: without any process or network."""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.supercontainer import Member
from cumulet.supercontainer.inside.merges import Merge, Merged, run_merge
from cumulet.supercontainer.inside.setting import Setting, read_setting
from cumulet.supercontainer.inside.spool import Offer, Spool, SupersededError, WrongChunkError
from cumulet.supercontainer.inside.values import CHUNK, Meta, decode, encode

ENVIRONMENT = {
    "CUMULET_JOB": "huge",
    "CUMULET_INDEX": "1",
    "CUMULET_SIZE": "3",
    "CUMULET_PEERS": "huge-{index}.huge.default.svc:7070",
    "CUMULET_SPOOL": "/run/cumulet/spool",
    "CUMULET_TRUST": "/run/cumulet/trust",
}


def merge(folder: Path, results: list[Any], how: Merge = "concatenate") -> Merged:
    spool = Spool(folder, "job")
    for index, result in enumerate(results):
        content = encode(result)
        spool.add(Offer(index, 0, str(index), content.meta, content.size), content)
    return run_merge(how, [spool.whole[index] for index in range(len(results))], spool.folder)


@pytest.mark.parametrize(
    "value", [b"", b"x" * (CHUNK + 1), "text", 1, 0.1, None, [1, [2.5, "x"]], {"a": None}, True], ids=repr
)
def test_a_value_comes_back_as_it_was(value: Any, tmp_path: Path) -> None:
    assert merge(tmp_path, [value], "one" if value is not None else next).load() == value


@pytest.mark.parametrize("kind", ["f4", "f8", "i1", "i8", "u2", "c8", "?", ">f4"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (2, 0, 3), (70, 60)])
def test_an_array_comes_back_with_type_and_shape(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = (np.random.default_rng(1).random(shape) * 100).astype(kind)
    found = merge(tmp_path, [array], "one").load()
    assert (found.dtype, found.shape) == (array.dtype, shape)
    assert np.array_equal(found, array)


def test_an_array_that_is_not_in_order_is_put_in_order(tmp_path: Path) -> None:
    array = np.arange(24).reshape(4, 6).T[::2]
    assert np.array_equal(merge(tmp_path, [array], "one").load(), array)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "a result of type object cannot be handed over"),
        ({1, 2}, "a result of type set cannot be handed over"),
        (Path("/nowhere"), "/nowhere: no such file to contribute"),
        (np.array([object()]), "an array of object cannot be handed over"),
    ],
)
def test_what_cannot_be_sent_is_refused(value: Any, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        encode(value)
    assert caught.value.message.startswith(text)


def test_concatenation_is_in_the_order_of_members(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"f" * 10)
    assert merge(tmp_path / "a", [b"0", b"11", b""]).load() == b"011"
    assert merge(tmp_path / "b", [[1], [], [2, 3]]).load() == [1, 2, 3]
    assert merge(tmp_path / "c", ["a", "b"]).load() == "ab"
    assert merge(tmp_path / "d", [file, file]).load() == b"f" * 20
    arrays = [np.full((rows, 3), rows, "f4") for rows in (2, 0, 5)]
    assert np.array_equal(merge(tmp_path / "e", arrays).load(), np.concatenate(arrays))


def test_sums_and_means_are_numpys_own_in_the_order_of_members(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(seed).random((700, 600)).astype("f4") for seed in range(3)]
    assert np.array_equal(merge(tmp_path / "a", arrays, "sum").load(), (arrays[0] + arrays[1]) + arrays[2])
    mean = merge(tmp_path / "b", arrays, "mean").load()
    assert np.array_equal(mean, ((arrays[0] + arrays[1]) + arrays[2]) / np.float32(3))
    whole = merge(tmp_path / "c", [np.array([1, 2]), np.array([2, 2])], "mean").load()
    assert whole.tolist() == [1.5, 2.0]


def test_sums_of_numbers_do_not_depend_on_how_the_work_was_divided(tmp_path: Path) -> None:
    values = [random.Random(1).uniform(-1e9, 1e9) for _ in range(60)]
    assert merge(tmp_path / "a", values, "sum").load() == math.fsum(values)
    assert merge(tmp_path / "b", [1 << 70, 1], "sum").load() == (1 << 70) + 1
    assert merge(tmp_path / "c", [1, 2], "mean").load() == 1.5


def test_argmax_is_that_of_everything_side_by_side(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(seed).random((5, 4, width)) for seed, width in enumerate((3, 1, 6))]
    found = merge(tmp_path / "a", arrays, "argmax").load()
    assert np.array_equal(found, np.concatenate(arrays, axis=-1).argmax(axis=-1))
    assert merge(tmp_path / "b", [0.5, 2, 2], "argmax").load() == 1
    assert merge(tmp_path / "c", [np.float32(3.0), np.float32(1.0)], "argmax").load() == 0


def test_a_function_gets_the_results_in_order_and_one_at_a_time(tmp_path: Path) -> None:
    assert merge(tmp_path, [3, 1, 2], lambda found: {"all": list(found)}).load() == {"all": [3, 1, 2]}


@pytest.mark.parametrize(
    ("results", "how", "text"),
    [
        ([b"", b"", "text"], "concatenate", "members 0 and 2 disagree: bytes and a value"),
        (
            [np.zeros((4, 10)), np.zeros((3, 10)), np.zeros((4, 12))],
            "concatenate",
            "members 0 and 2 disagree in shape: (4, 10) and (4, 12); "
            "concatenate needs arrays that are alike but for the first axis",
        ),
        (
            [np.zeros(3), np.zeros(4)],
            "sum",
            "members 0 and 1 disagree in shape: (3,) and (4,); sum needs arrays of one shape",
        ),
        (
            [np.zeros(2, "f4"), np.zeros(2)],
            "mean",
            "members 0 and 1 disagree in type: an array (2,) of <f4 and an array (2,) of <f8",
        ),
        ([1, "a"], "sum", "sum takes numbers or arrays; member 1 contributed a value"),
        ([{"a": 1}, {}], "concatenate", "concatenate takes lists or texts, from all members the same"),
        ([1, 2], "one", "one result is wanted, and 0 and 1 has one"),
    ],
)
def test_results_that_disagree_are_named(results: list[Any], how: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        merge(tmp_path, results, how)
    assert caught.value.message == text


def test_an_unknown_merge_is_refused_before_anything_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such merge: 'median'"):
        merge(tmp_path, [1], "median")


def offer(content: bytes, attempt: int = 0, life: str = "a") -> Offer:
    return Offer(1, attempt, life, Meta("bytes"), len(content))


def test_a_part_goes_on_where_its_bytes_are_right(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(3 * CHUNK)
    chunks = [memoryview(content)[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    digests = [hashlib.sha256(chunk).digest() for chunk in chunks]
    first = Spool(tmp_path, "job").begin(offer(content))
    assert first is not None
    for digest, chunk in zip(digests[:2], chunks[:2], strict=True):
        first.add(digest, chunk)
    with pytest.raises(WrongChunkError, match="member 1: chunk 3 is not what its digest says"):
        first.add(digests[0], chunks[2])
    # The process is lost; another one of the same index opens the same folder.
    spool = Spool(tmp_path, "job")
    again = spool.begin(offer(content, attempt=1, life="b"))
    assert again is not None
    assert again.have == digests[:2]
    again.resume(2)
    again.add(digests[2], chunks[2])
    again.finish()
    assert spool.whole[1].path.read_bytes() == content
    assert spool.begin(offer(b"other", attempt=2, life="c")) is None
    assert Spool(tmp_path, "job").whole == spool.whole


def test_a_part_that_was_damaged_on_the_disk_is_asked_for_again(tmp_path: Path) -> None:
    content = encode(b"right")
    Spool(tmp_path, "job").add(offer(b"right"), content)
    (tmp_path / "job/1.whole").write_bytes(b"wrong")
    assert Spool(tmp_path, "job").whole == {}
    (tmp_path / "job/journal.jsonl").write_text('{"half a li')
    assert Spool(tmp_path, "job").whole == {}


def test_an_older_start_cannot_write_once_a_newer_one_has_come(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "job")
    older = spool.begin(offer(b"x", 0, "a"))
    newer = spool.begin(offer(b"y", 0, "b"))
    assert older is not None
    assert newer is not None
    with pytest.raises(SupersededError, match="member 1: another one has taken its place"):
        older.add(hashlib.sha256(b"x").digest(), memoryview(b"x"))
    with pytest.raises(SupersededError):
        spool.begin(offer(b"x", 0, "a"))
    newer.add(hashlib.sha256(b"y").digest(), memoryview(b"y"))
    newer.finish()
    assert decode(Meta("bytes"), spool.whole[1].path) == b"y"


def test_a_setting_is_read_from_the_environment() -> None:
    found = read_setting({**ENVIRONMENT, "CUMULET_ATTEMPT": "", "CUMULET_MERGING": "2", "OTHER": "x"})
    assert (found.index, found.size, found.attempt, found.merging, found.merges) == (1, 3, 0, 2, False)
    assert found.address(2) == ("huge-2.huge.default.svc", 7070)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"CUMULET_JOB": ""}, "this is no member of a super container: CUMULET_JOB is not set"),
        ({"CUMULET_INDEX": "3"}, "CUMULET_INDEX: '3' is not a number from 0 to 2"),
        ({"CUMULET_PEERS": "a:1,b:2"}, "CUMULET_PEERS: 'a:1,b:2' is not host:port of 3 members"),
        ({"CUMULET_ENGINE": "ray"}, "CUMULET_ENGINE: 'ray' is none of shards, dask"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_setting({**ENVIRONMENT, **change})
    assert caught.value.message == text


def make_member(index: int, size: int) -> Member:
    setting = Setting("job", index, size, ("x:1",) * size, Path("/nowhere"), Path("/nowhere"), merging=size - 1)
    return Member(setting) if index != size - 1 else Member(Setting("job", index, size, *("x",) * 3, merging=0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 3), (10, 3), (7, 7), (100, 9)])
def test_all_shards_together_are_the_whole(count: int, size: int) -> None:
    items = list(range(count))
    shards = [make_member(index, size).shard(items) for index in range(size)]
    assert [each for shard in shards for each in shard] == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_member_is_small(tmp_path: Path) -> None:
    """What a task pays for the library, beside Python itself: no asyncio, no numpy, nothing of the controller."""
    import subprocess
    import sys

    program = (
        "import sys; from cumulet.supercontainer.inside.life import Member; "
        "lines = open('/proc/self/status').read().split('\\n'); "
        "print([int(x.split()[1]) for x in lines if x.startswith('VmRSS')][0], "
        "[n for n in ('asyncio', 'numpy', 'pydantic', 'cryptography', 'cumulet.tasks') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kilobytes, _, modules = done.stdout.strip().partition(" ")
    assert modules == "[]"
    assert int(kilobytes) < 40 * 1024


def test_many_parts_may_come_at_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "job")
    contents = {index: random.Random(index).randbytes(CHUNK + index) for index in range(12)}

    def bring(index: int) -> None:
        content = encode(contents[index])
        spool.add(Offer(index, 0, str(index), content.meta, content.size), content)

    threads = [threading.Thread(target=bring, args=(index,)) for index in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {index: part.path.read_bytes() for index, part in spool.whole.items()} == contents
    journal = (tmp_path / "job/journal.jsonl").read_text().splitlines()
    assert {json.loads(line)["index"] for line in journal} == set(contents)
