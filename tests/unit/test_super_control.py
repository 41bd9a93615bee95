"""A super container from outside: an API server that is a stand-in, members that are real processes."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from super_members import Group, ask, make_settings, running
from super_tasks import contribute, contribute_number, make_part, merge_badly, never_report

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, UsageError
from cumulet.supercontainer import Controller
from cumulet.supercontainer.control import describe
from cumulet.tasks import TaskProfile, parse_profile, submit

NOTES = "batch.kubernetes.io/"


class MissingError(TargetError):
    """There is no such object."""

    status = 404


def make_profile(cpu: int = 250, **more: Any) -> TaskProfile:
    values = {"version": 1, "task": "job", "image": "x@sha256:0", "cpu": cpu, "memory": "64MiB", **more}
    return parse_profile(json.dumps({"mergeable": True, "runs": "once", "deadline": "60s", **values}), "job.yaml")


def make_node(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "2", "memory": "4Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def make_busy_pod(node: str) -> dict[str, Any]:
    labels = {"cumulet.dev/task": f"other-{node}", "cumulet.dev/place": "whole"}
    spec = {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}
    return {"metadata": {"name": f"busy-{node}", "labels": labels}, "spec": spec, "status": {"phase": "Running"}}


class StandIn:
    """As much of an API server as is asked: objects, and pods for a job that is let go."""

    def __init__(self, group: Group, nodes: list[str], busy: list[str]) -> None:
        self.group = group
        self.nodes = [make_node(name) for name in nodes]
        self.busy = [make_busy_pod(name) for name in busy]
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.homeless = False

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """One request."""
        self.calls.append((method, path))
        if "/proxy/stats" in path or "metrics.k8s.io" in path:
            raise MissingError(path)
        if "/proxy/" in path:
            return await asyncio.to_thread(self._ask, path.partition("/proxy/")[2].partition("/")[2], method)
        if path == "/api/v1/nodes":
            return {"items": self.nodes}
        if path.endswith("/pods"):
            return {"items": self._pods() if "labelSelector" in str(more) else [*self.busy, *self._pods()]}
        if method == "DELETE":
            path, _, query = path.partition("?")
            assert query == "propagationPolicy=Background"
            self.objects.pop(path)
            if "/jobs/" in path:
                self.group.processes.clear()
            return {}
        if method == "PATCH" and "apply" in more["content"]:
            self.objects[path] = copy.deepcopy(body)
            if body["kind"] == "Service":
                self.objects[path]["spec"].setdefault("clusterIP", "10.43.0.9")
            return self.objects[path]
        if path not in self.objects:
            raise MissingError(path)
        if method == "PATCH":
            self._let_go(body["spec"]["suspend"])
            self.objects[path]["spec"] |= body["spec"]
        if path.endswith("/jobs/job") and self._over():
            self.objects[path]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        return self.objects[path]

    def _let_go(self, suspend: bool) -> None:
        if suspend:
            for index, process in list(self.group.processes.items()):
                process.kill()
                process.join()
                if process.exitcode != 3:
                    del self.group.processes[index]
            return
        for index in range(len(self.group.settings)):
            self.group.start(index)

    def _over(self) -> bool:
        processes = list(self.group.processes.values())
        return bool(processes) and all(each.exitcode == 0 for each in processes)

    def _pods(self) -> list[dict[str, Any]]:
        self.group.replace_lost()
        pods = []
        for index, process in sorted(self.group.processes.items()):
            attempt = self.group.lives[index]
            notes = {f"{NOTES}job-completion-index": str(index), f"{NOTES}job-index-failure-count": str(attempt)}
            phase = {None: "Running", 0: "Succeeded"}.get(process.exitcode, "Failed")
            errors = [event for number, _, event in self.group.seen() if number == index and "Error: " in event]
            words = json.dumps({"final": index == 0, "message": errors[-1].partition(": ")[2]}) if errors else ""
            ended = {"terminated": {"exitCode": process.exitcode, "message": words}}
            pods.append(
                {
                    "metadata": {"name": f"job-{index}-{attempt}", "annotations": notes},
                    "spec": {"containers": [], **({} if self.homeless else {"nodeName": f"p{index + 1}"})},
                    "status": {
                        "phase": phase,
                        "containerStatuses": [{"state": ended}] if phase == "Failed" else [],
                    },
                }
            )
        return pods

    def _ask(self, path: str, method: str) -> dict[str, Any]:
        try:
            found = ask(self.group.settings[0], path, method)
        except (OSError, ValueError) as error:
            raise TargetError(str(error)) from error
        if found["status"] != 200:
            raise MissingError(path)
        return found


@contextmanager
def stand_in(
    folder: Path, task: Any, nodes: int = 4, busy: int = 0, **more: Any
) -> Iterator[tuple[StandIn, list[str]]]:
    """A stand-in with `nodes`, the last of which are `busy`, and what is told."""
    names = [f"p{number + 1}" for number in range(nodes)]
    group = Group(make_settings(folder, 3), task, **more)
    told: list[str] = []
    made = StandIn(group, names, names[nodes - busy :])
    with running(Group([], task)):
        try:
            yield made, told
        finally:
            for process in group.processes.values():
                process.kill()
                process.join()


def run(made: StandIn, told: list[str], target: Path, *, wait: float = 5.0, profile: TaskProfile | None = None) -> Any:
    controller = Controller(made, "default", told.append, pause=0.05)
    return asyncio.run(controller.run(profile or make_profile(), target, wait=wait))


def test_a_task_becomes_three_members_and_one_result_and_nothing_is_left(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute) as (made, told):
        found = run(made, told, tmp_path / "result")
    assert (tmp_path / "result").read_bytes() == b"".join(make_part(index) for index in range(3))
    assert json.loads((tmp_path / "result.meta.json").read_text()) == {"dtype": "", "kind": "bytes", "shape": []}
    assert found.size == (tmp_path / "result").stat().st_size
    assert made.objects == {}
    assert told[:3] == [
        "job: 3 members, suspended",
        "job: 3 whole nodes are free, let go",
        "job: on p1, p2, p3",
    ]
    assert told[-1] == f"job: result of {found.size} bytes is in {tmp_path / 'result'}"


@pytest.mark.parametrize(("index", "step"), [(1, "sent"), (0, "merging")])
def test_a_member_that_is_lost_is_replaced_and_the_result_is_the_same(index: int, step: str, tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute, deaths={index: step}, forget=True) as (made, told):
        run(made, told, tmp_path / "result")
    assert made.group.killed == 1
    assert (tmp_path / "result").read_bytes() == b"".join(make_part(index) for index in range(3))


def test_too_few_free_nodes_are_counted_and_the_busy_ones_named(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute, busy=2) as (made, told):
        with pytest.raises(TargetError) as caught:
            run(made, told, tmp_path / "result", wait=0.2)
        assert made.objects["/apis/batch/v1/namespaces/default/jobs/job"]["spec"]["suspend"] is True
        assert made.group.processes == {}
        assert caught.value.message == (
            "job: 250 % of a node's CPU: more than a whole node, needs 3 whole nodes, "
            "2 free (p1, p2); busy: p3 (other-p3), p4 (other-p4)"
        )
        # Somebody goes, and the same command goes on.
        made.busy.pop()
        assert run(made, told, tmp_path / "result").size > 0
    assert "job: is there already" in told


def test_more_nodes_than_there_are_is_refused_at_once(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute, nodes=2) as (made, told):
        with pytest.raises(TargetError, match="needs 3 whole nodes, 2 free"):
            run(made, told, tmp_path / "result")
        assert made.objects == {}


def test_nodes_that_are_away_for_a_while_are_waited_for_and_named(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute) as (made, told):
        made.nodes[0]["spec"]["unschedulable"] = True
        made.nodes[1]["status"]["conditions"][0]["status"] = "Unknown"
        # It is Ready again, and the taint is there for a moment longer.
        made.nodes[2]["spec"]["taints"] = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
        with pytest.raises(TargetError) as caught:
            run(made, told, tmp_path / "result", wait=0.2)
        assert caught.value.message.endswith(
            "needs 3 whole nodes, 1 free (p4); away: p1 (cordoned), p2 (not Ready), p3 (kept free: unreachable)"
        )
        made.nodes[1] = make_node("p2")
        made.nodes[2] = make_node("p3")
        assert run(made, told, tmp_path / "result").size > 0


def test_nodes_that_somebody_keeps_free_do_not_count(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute, nodes=3) as (made, told):
        made.nodes[0]["spec"]["taints"] = [{"key": "example.org/kept", "effect": "NoSchedule"}]
        with pytest.raises(TargetError, match="needs 3 whole nodes, 2 free"):
            run(made, told, tmp_path / "result")
        assert made.objects == {}


def test_a_small_task_is_no_super_container(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute) as (made, told), pytest.raises(UsageError) as caught:
        run(made, told, tmp_path / "result", profile=make_profile(60))
    assert caught.value.message.startswith("job is not for a super container: 60 % of a node's CPU")
    assert caught.value.hint == "cumulet task run job.yaml"


def test_members_without_nodes_let_go_of_what_the_others_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cumulet.supercontainer.control.SCHEDULE_SECONDS", 0.2)
    with stand_in(tmp_path, contribute) as (made, told):
        made.homeless = True
        with pytest.raises(TargetError, match="member 0: "):
            run(made, told, tmp_path / "result", wait=0.1)
        assert made.objects["/apis/batch/v1/namespaces/default/jobs/job"]["spec"]["suspend"] is True


def test_what_a_merge_function_raises_is_told(tmp_path: Path) -> None:
    with stand_in(tmp_path, merge_badly) as (made, told):
        for _ in range(2):
            with pytest.raises(TargetError) as caught:
                run(made, told, tmp_path / "result")
            text = "job: the task's merge function pick raised ZeroDivisionError: division by zero"
            assert text in caught.value.message
            # Nobody goes on computing.
            assert made.objects["/apis/batch/v1/namespaces/default/jobs/job"]["spec"]["suspend"] is True
    # Which of them depends on whether the merging member has ended by itself before it was let go.
    assert {"job: has failed before, begins anew", "job: is there already"} & set(told)


def test_a_member_that_never_reports_is_named_with_its_node(tmp_path: Path) -> None:
    with stand_in(tmp_path, never_report) as (made, told):
        made.group.settings = [
            type(each)(**{name: getattr(each, name) for name in each.__slots__} | {"seconds": 1.0})
            for each in made.group.settings
        ]
        with pytest.raises(TargetError) as caught:
            run(made, told, tmp_path / "result")
    assert caught.value.message == ("job: member 1 of 3 has not contributed within 1 s: member 1 is on p2, Running")


def test_a_task_run_with_others_is_a_super_container_whose_result_is_fetched_later(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute) as (made, told):
        controller = Controller(made, "default", told.append, pause=0.05)
        for _ in range(2):
            done = asyncio.run(submit(made, [make_profile()], spread=controller.start))
            assert done.places == {"job-0": "p1", "job-1": "p2", "job-2": "p3"}
            assert done.differences == ()
        assert told.count("job: 3 members, suspended") == 1
        assert "job: is there already" in told
        status = asyncio.run(controller.follow("job", Deadline.after(30)))
        fetched = asyncio.run(controller.fetch("job", status, tmp_path / "result"))
    assert (tmp_path / "result").read_bytes() == b"".join(make_part(index) for index in range(3))
    assert fetched.meta["kind"] == "bytes"


def test_the_status_of_a_job_that_nobody_follows(tmp_path: Path) -> None:
    with stand_in(tmp_path, contribute_number) as (made, told):
        controller = Controller(made, "default", told.append, pause=0.05)

        async def go() -> tuple[str, bytes]:
            from cumulet.supercontainer import make_super_task

            task = make_super_task(make_profile(), await controller.decide(make_profile()))
            await controller.create(task)
            first = describe(await controller.status("job"))
            made._let_go(False)
            made.objects["/apis/batch/v1/namespaces/default/jobs/job"]["spec"]["suspend"] = False
            status = await controller.follow("job", Deadline.after(15))
            await controller.fetch("job", status, tmp_path / "result")
            await controller.remove("job")
            return first, (tmp_path / "result").read_bytes()

        assert asyncio.run(go()) == ("job: suspended", b"6")
        with pytest.raises(TargetError, match="there is no super container job"):
            asyncio.run(controller.status("job"))
