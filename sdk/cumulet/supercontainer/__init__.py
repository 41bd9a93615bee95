"""Super containers: one task on several whole nodes, its results merged into one.

In a task: `from cumulet.supercontainer import member`, then `member.shard(items)` and `member.contribute(result)`.
That loads `inside`, which is small; what starts and follows a super container from outside is loaded when asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cumulet.supercontainer.control import Controller, Fetched, describe
    from cumulet.supercontainer.inside.life import Member
    from cumulet.supercontainer.judge import SuperStatus
    from cumulet.supercontainer.objects import (
        SuperTask,
        make_job,
        make_merging_service,
        make_secret,
        make_service,
        make_super_task,
    )
    from cumulet.supercontainer.trust import make_trust

    member: Member

_PLACES = {
    "Controller": "cumulet.supercontainer.control",
    "Fetched": "cumulet.supercontainer.control",
    "Member": "cumulet.supercontainer.inside.life",
    "SuperStatus": "cumulet.supercontainer.judge",
    "SuperTask": "cumulet.supercontainer.objects",
    "describe": "cumulet.supercontainer.control",
    "make_job": "cumulet.supercontainer.objects",
    "make_merging_service": "cumulet.supercontainer.objects",
    "make_secret": "cumulet.supercontainer.objects",
    "make_service": "cumulet.supercontainer.objects",
    "make_super_task": "cumulet.supercontainer.objects",
    "make_trust": "cumulet.supercontainer.trust",
}
__all__ = [
    "Controller",
    "Fetched",
    "Member",
    "SuperStatus",
    "SuperTask",
    "describe",
    "make_job",
    "make_merging_service",
    "make_secret",
    "make_service",
    "make_super_task",
    "make_trust",
    "member",
]


def __getattr__(name: str) -> object:
    """What is slow to import, on its first use; `member` is made once, of the process's environment."""
    if name == "member":
        from cumulet.supercontainer.inside.life import load_member  # noqa: PLC0415 - see above

        return globals().setdefault("member", load_member())
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
