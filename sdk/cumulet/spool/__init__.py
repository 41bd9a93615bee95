"""Store and forward: results stay at the edge first and go upward when there is a way.

`Spool` keeps what must go up, `Sender` sends it, `Inbox` takes it in at the tier above, each id once,
`relay` hands on what has arrived to the next spool, `Collector` takes what tasks leave in a folder, `fetch_results`
brings what has arrived at the top to who may read it, `look_at` says how much there is. `receive` is the inbox as a web
server; who wants it imports it by name, because a device that only sends has no web server.
"""

from cumulet.spool.collect import Collector
from cumulet.spool.disk import Disk, make_folders
from cumulet.spool.entry import Entry, make_id
from cumulet.spool.fetch import Fetched, fetch_results
from cumulet.spool.inbox import Arrival, ConflictError, FullError, Inbox
from cumulet.spool.look import Waiting, look_at
from cumulet.spool.relay import relay
from cumulet.spool.send import Outcome, Sender, Target, make_client
from cumulet.spool.store import Spool, SpoolFullError

__all__ = [
    "Arrival",
    "Collector",
    "ConflictError",
    "Disk",
    "Entry",
    "Fetched",
    "FullError",
    "Inbox",
    "Outcome",
    "Sender",
    "Spool",
    "SpoolFullError",
    "Target",
    "Waiting",
    "fetch_results",
    "look_at",
    "make_client",
    "make_folders",
    "make_id",
    "relay",
]
