"""Members of a super container as processes on loopback: whoever is lost and when, the result is the same."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from super_members import Group, ask, make_settings, running, take_result
from super_tasks import contribute, contribute_number, contribute_shapes, make_part, merge_badly, never_report

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.supercontainer import Member, make_trust
from cumulet.supercontainer.inside import wire
from cumulet.supercontainer.inside.collect import Collector, make_offer
from cumulet.supercontainer.inside.deliver import Delivery
from cumulet.supercontainer.inside.values import CHUNK, encode

SIZE = 3
MEMBER_STEPS = ["offered", "sending from 0", "chunk", "sent", "stored", "safe"]
MERGING_STEPS = [
    "listening", "offer 1", "receiving 1 from 0", "chunk 1", "part 1", "part 0", "merging", "merged", "safe",
    "released 1",
]  # fmt: skip


WHOLE = hashlib.sha256(b"".join(make_part(index) for index in range(SIZE))).hexdigest()


@pytest.mark.parametrize(
    ("index", "step"), [*((1, step) for step in MEMBER_STEPS), *((0, step) for step in MERGING_STEPS)]
)
def test_whoever_is_lost_at_whichever_step_the_result_is_the_same(index: int, step: str, tmp_path: Path) -> None:
    forget = step != "chunk 1"
    group = Group(make_settings(tmp_path, SIZE), contribute, {index: step}, forget=forget)
    with running(group):
        found = hashlib.sha256(take_result(group)).hexdigest()
        end = time.monotonic() + 5
        while group.processes[index].exitcode is None and group.killed == 0 and time.monotonic() < end:
            time.sleep(0.02)
        group.replace_lost()
    assert found == WHOLE
    # The last ones may have gone before they could be caught: nothing of theirs is needed any more.
    assert group.killed == 1 or (step.startswith("released") and group.processes[index].exitcode == 0)


def test_without_a_loss_everybody_ends_well_once_the_result_is_taken(tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, SIZE), contribute)
    with running(group):
        assert hashlib.sha256(take_result(group)).hexdigest() == WHOLE
        for process in group.processes.values():
            process.join(5)
        assert [process.exitcode for process in group.processes.values()] == [0, 0, 0]


def test_what_is_kept_on_the_merging_members_disk_is_not_sent_again(tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, SIZE), contribute, {0: "part 1"})
    with running(group):
        assert hashlib.sha256(take_result(group)).hexdigest() == WHOLE
        events = group.seen()
    again = [event for index, attempt, event in events if (index, attempt) == (0, 1) and event.startswith("receiving")]
    assert not [event for event in again if event.startswith("receiving 1")]


def test_a_result_that_is_stored_is_found_by_a_replacement_which_computes_nothing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, 1, keep="stored")
    first = Member(settings[0], lambda event: None)
    made = first.contribute(b"all of it")
    first.close()
    assert made is not None
    assert made.path == tmp_path / "store/job/result"
    second = Member(replace(settings[0], attempt=1, spool=tmp_path / "other"), lambda event: None)
    again = second.contribute(b"something else")
    second.close()
    assert again is not None
    assert again.load() == b"all of it"


def test_a_stored_result_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, 1, keep="stored")
    first = Member(settings[0], lambda event: None)
    first.contribute(b"all of it")
    first.close()
    (tmp_path / "store/job/result").write_bytes(b"all of iT")
    second = Member(replace(settings[0], attempt=1), lambda event: None)
    again = second.contribute(b"new")
    second.close()
    assert again is not None
    assert again.load() == b"all of it", "its own spool still has the part"


def failure(group: Group) -> tuple[dict[str, Any], list[int | None]]:
    """What the door says of a job that failed, and how the members have ended."""
    door = group.settings[0]
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = ask(door, "state")
        except (OSError, ValueError):
            state = {"state": "?"}
        if state["state"] == "failed":
            break
        time.sleep(0.02)
    return state, [process.exitcode for process in group.processes.values()]


def test_results_that_disagree_are_named_with_their_members_and_everybody_is_told(tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, SIZE), contribute_shapes)
    with running(group):
        for index in (1, 2):
            group.processes[index].join(10)
        events = group.seen()
    text = "TargetError: concatenate takes lists or texts, from all members the same"
    assert {event for _, _, event in events if "Error" in event} == {text}
    assert [group.processes[index].exitcode for index in (1, 2)] == [3, 3]


def test_a_merge_function_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, SIZE), merge_badly)
    with running(group):
        for index in (1, 2):
            group.processes[index].join(10)
        errors = {event for _, _, event in group.seen() if "Error" in event}
    assert len(errors) == 1
    assert errors.pop().startswith(
        "TargetError: the task's merge function pick raised ZeroDivisionError: division by zero (super_tasks.py:"
    )


def test_a_member_that_never_reports_is_named_when_the_time_is_over(tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, SIZE, seconds=1.0), never_report)
    with running(group):
        state, _ = failure(group)
    assert state["message"] == "member 1 of 3 has not contributed within 1 s"
    assert state["missing"] == [1]


def test_who_does_not_know_the_token_gets_nothing(tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, 1), contribute_number)
    with running(group):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                answer = ask(replace(group.settings[0], token="guess"), "state")
                break
            except (OSError, ValueError):
                time.sleep(0.02)
        assert answer == {"message": "nothing here", "status": 404}


def test_a_member_of_another_job_is_not_believed(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, 2)
    collector = Collector(settings[0], lambda event: None)
    files = make_trust("job", 2)
    for name, file in (("ca.crt", "ca.crt"), ("tls.crt", "1.crt"), ("tls.key", "1.key")):
        (settings[1].trust / name).write_bytes(files[file])
    try:
        with pytest.raises(TargetError, match="its certificate is not good"):
            Delivery(replace(settings[1], seconds=0.3), encode(b"x"), lambda event: None).run(Deadline.after(0.3))
        assert collector.missing == [0, 1]
    finally:
        collector.close()


def test_a_member_cannot_contribute_for_another(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, 3)
    collector = Collector(settings[0], lambda event: None)
    try:
        context = wire.make_client_context(settings[1].trust)
        with wire.connect(settings[0].address(0), context, "member-0") as connection:
            wire.send(connection, make_offer(replace(settings[1], index=2), encode(b"x")))
            with pytest.raises(wire.BrokenError):
                wire.receive(connection)
        assert collector.missing == [0, 1, 2]
    finally:
        collector.close()


def test_an_older_attempt_of_an_index_has_to_wait_for_the_newer_one(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, 2)
    events: list[str] = []
    collector = Collector(settings[0], events.append)
    newer, older = replace(settings[1], attempt=1, life="newer"), replace(settings[1], attempt=0, life="older")
    context = wire.make_client_context(settings[1].trust)
    content = encode(b"y" * (CHUNK + 1))
    try:
        with wire.connect(settings[0].address(0), context, "member-0") as first:
            wire.send(first, make_offer(newer, content))
            assert wire.receive(first) == {"do": "send", "have": []}
            with wire.connect(settings[0].address(0), context, "member-0") as second:
                wire.send(second, make_offer(older, content))
                answer = wire.receive(second)
                assert answer == {"do": "wait", "why": "member 1: another one has taken its place"}
        # The newer one is lost in the middle; it comes again and goes on where its bytes are right.
        Delivery(replace(newer, seconds=5), content, lambda event: None)
    finally:
        collector.close()
