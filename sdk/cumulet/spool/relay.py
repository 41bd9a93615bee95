"""Handing on: what has arrived from below goes into the spool that goes up, under the id that it has."""

from __future__ import annotations

from cumulet.spool.inbox import Inbox
from cumulet.spool.store import Spool, SpoolFullError


def relay(inbox: Inbox, spool: Spool) -> int:
    """Move everything that has arrived into the spool; how many entries. A full spool ends it: the rest waits.

    A cut between the two leaves an entry in both; the next call puts the same id again, which changes nothing.
    """
    moved = 0
    for arrival in inbox.arrivals():
        entry = arrival.entry
        try:
            given = {"id": entry.id, "topic": entry.topic, "origin": entry.origin}
            spool.put(arrival.path, **given, meta=entry.meta, created=entry.created)
        except SpoolFullError:
            break
        inbox.taken(arrival)
        moved += 1
    return moved
