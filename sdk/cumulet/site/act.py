"""Carries a plan out: phases in order, hosts side by side where the plan allows, a note before and after each step.

Every step may be done twice. Whatever ends this process, the next run reads the facts
again and goes on with what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

from cumulet.core.errors import CumuletError, TargetError
from cumulet.site.actions import Action, Content, Fetch, Handle, Late, Phase, Plan, Put, Ready, Run, Send, Step, Wait
from cumulet.site.handover import handle
from cumulet.site.keeper import FOLDER, Keeper
from cumulet.site.readiness import wait_ready
from cumulet.site.ssh import Host, Result, failure

WAIT_EVERY = 0.5
State = Literal["start", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a step. `seconds` is how long it took; `text` is an error's."""

    state: State
    step: Step
    phase: str
    seconds: float = 0.0
    text: str = ""


Listener = Callable[[Event], None]
Work = Run | Fetch | Wait | Send | Handle | Ready
"""Every action but the making of files."""


@dataclass
class Crew:
    """Who does the work: the hosts, the keeper of lock and journal, who is told, and the vault of this run."""

    hosts: Mapping[str, Host]
    keeper: Keeper
    listen: Listener
    vault: dict[str, str] = field(default_factory=dict)
    record: list[dict[str, object]] = field(default_factory=list)
    background: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    """What goes on beside the steps of a phase, until its end."""


async def carry_out(plan: Plan, crew: Crew) -> None:
    """Carry a plan out. Raises TargetError that names every host that failed; nothing after that phase is begun."""
    beside: list[tuple[Phase, asyncio.Task[None]]] = []
    try:
        for phase in plan:
            over = [task for other, task in beside if phase.name not in other.beside]
            beside = [(other, task) for other, task in beside if phase.name in other.beside]
            await _end(over)
            if phase.beside:
                beside.append((phase, asyncio.create_task(_side_by_side(phase, crew))))
                continue
            async with crew.background:
                await _carry_phase(phase, crew)
    except CumuletError as error:
        # Those end what they have begun, as the hosts of one phase do.
        await _end([task for _, task in beside], [error])
    finally:
        # Interrupted: nothing goes on that nobody waits for.
        for _, task in beside:
            task.cancel()
    await _end([task for _, task in beside])


async def _end(work: Sequence[Awaitable[None]], errors: Sequence[CumuletError] = ()) -> None:
    """Wait until all of this work is over. Raises its errors, and `errors`, as one."""
    results = await asyncio.gather(*work, return_exceptions=True)
    found = [each for each in results if isinstance(each, BaseException)]
    for each in found:
        if not isinstance(each, CumuletError):
            raise each
    raise_all([*errors, *(each for each in found if isinstance(each, CumuletError))])


async def _carry_phase(phase: Phase, crew: Crew) -> None:
    if phase.at_once > 1:
        await _side_by_side(phase, crew)
        return
    for step in phase.steps:
        await _do(step, phase, crew)


async def _side_by_side(phase: Phase, crew: Crew) -> None:
    limit = asyncio.Semaphore(phase.at_once)
    queues: dict[str, list[Step]] = {}
    for step in phase.steps:
        queues.setdefault(step.host, []).append(step)

    async def work(steps: Sequence[Step]) -> None:
        async with limit:
            for step in steps:
                await _do(step, phase, crew)

    # One host's failure does not stop the others half-way: they end what they have begun.
    await _end([work(steps) for steps in queues.values()])


def raise_all(errors: Sequence[CumuletError]) -> None:
    """Raise what went wrong, as one error; nothing if nothing did."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = [each.message + (f"\n  {each.hint}" if each.hint else "") for each in errors]
        raise TargetError(f"{len(errors)} devices failed\n" + "\n".join(lines), hint="run the same command again")


async def _do(step: Step, phase: Phase, crew: Crew) -> None:
    begin = time.monotonic()
    crew.listen(Event("start", step, phase.name))
    host = crew.hosts[step.host]
    await crew.keeper.note(step=step.id, state="start")
    await _note_on_host(host, step, "start")
    try:
        for files, action in group_puts(step.actions):
            if files:
                contents = [(each.path, (_fill(each.content, crew.vault) or "").encode(), each.mode) for each in files]
                await host.put_all(contents)
            if action is not None:
                await _act(action, host, crew)
    except CumuletError as error:
        seconds = time.monotonic() - begin
        _record(crew, step, phase, seconds, "failed")
        crew.listen(Event("failed", step, phase.name, seconds, error.message))
        raise
    seconds = time.monotonic() - begin
    await _note_on_host(host, step, "done")
    await crew.keeper.note(step=step.id, state="done", seconds=round(seconds, 3))
    _record(crew, step, phase, seconds, "done")
    crew.listen(Event("done", step, phase.name, seconds))


def _record(crew: Crew, step: Step, phase: Phase, seconds: float, state: State) -> None:
    entry = {"phase": phase.name, "step": step.name, "host": step.host, "seconds": round(seconds, 3), "state": state}
    crew.record.append(entry)


async def _note_on_host(host: Host, step: Step, state: State) -> None:
    """The device's own journal, and a mark of what is under way there."""
    mark = f'printf %s "$1" >{FOLDER}/installing' if state == "start" else f"rm -f {FOLDER}/installing"
    script = f'mkdir -p {FOLDER} && echo "$(date -u +%FT%TZ) $1 $2" >>{FOLDER}/journal && {mark}'
    await host.run(["sh", "-c", script, "journal", step.name, state])


def group_puts(actions: Sequence[Action]) -> Iterator[tuple[list[Put], Work | None]]:
    """Actions in their order, with the files that are made before each: neighbours go in one round trip."""
    files: list[Put] = []
    for action in actions:
        if isinstance(action, Put):
            files.append(action)
        else:
            yield files, action
            files = []
    if files:
        yield files, None


async def _act(action: Work, host: Host, crew: Crew) -> None:
    vault = crew.vault
    match action:
        case Run():
            result = await host.run(action.argv, input=_fill(action.input, vault), seconds=action.seconds, check=False)
            if result.code != 0:
                raise explain(action, host.name, result)
            if action.into:
                vault[action.into] = result.out.strip()
        case Fetch():
            vault[action.into] = await host.read(action.path)
        case Wait():
            await _wait(action, host, vault)
        case Send():
            from cumulet.site.transfer import send_file  # noqa: PLC0415 - only few plans send files

            await send_file(action, host)
        case Handle():
            await handle(action, host, vault, crew.background)
        case Ready():
            await wait_ready(action, host)
        case _:
            assert_never(action)


def explain(action: Run, host: str, result: Result) -> TargetError:
    """The error of a program that failed, in plain words where the action knows what its text means."""
    for part, meaning in action.explain:
        if part in result.err or part in result.out:
            return TargetError(f"{host}: {meaning}", hint="run the same command again")
    return failure(host, action.argv, result)


async def _wait(action: Wait, host: Host, vault: dict[str, str]) -> None:
    until = time.monotonic() + action.seconds
    while True:
        result = await host.run(action.argv, input=_fill(action.input, vault), seconds=60, check=False)
        if result.code == 0:
            return
        if time.monotonic() > until:
            error = failure(host.name, action.argv, result)
            raise TargetError(
                f"{host.name}: not within {action.seconds:.0f} s: {action.what}\n{error.message}", hint=error.hint
            )
        await asyncio.sleep(WAIT_EVERY)


def _fill(content: Content | None, vault: Mapping[str, str]) -> str | None:
    return content.make(vault) if isinstance(content, Late) else content
