"""The way up: which link carries what, and the Beidou message that carries the status when there is none.

`load_uplink` reads the document, `probe_links` what the links are like, `make_choice` decides (pure), `make_commands`
says what has to be done for it, `Uplink` does all of that again and again. `is_open` tells others on the device,
from the published choice, whether a class of traffic may flow now.
"""

from cumulet.uplink.beacon import Beacon, load_status, write_status
from cumulet.uplink.choose import CLASSES, MARKS, Choice, LinkState, make_choice
from cumulet.uplink.facts import probe_links
from cumulet.uplink.gnss import Fix, read_fix
from cumulet.uplink.model import UplinkDocument, load_uplink
from cumulet.uplink.rdss import LIMITS, Message
from cumulet.uplink.routes import Command, make_commands
from cumulet.uplink.service import STATE_FILE, Uplink, is_open
from cumulet.uplink.status import NodeStatus, SiteStatus, decode_status, encode_status, is_newer
from cumulet.uplink.terminal import Terminal, keep_terminal, open_line, run_terminal

__all__ = [
    "CLASSES",
    "LIMITS",
    "MARKS",
    "STATE_FILE",
    "Beacon",
    "Choice",
    "Command",
    "Fix",
    "LinkState",
    "Message",
    "NodeStatus",
    "SiteStatus",
    "Terminal",
    "Uplink",
    "UplinkDocument",
    "decode_status",
    "encode_status",
    "is_newer",
    "is_open",
    "keep_terminal",
    "load_status",
    "load_uplink",
    "make_choice",
    "make_commands",
    "open_line",
    "probe_links",
    "read_fix",
    "run_terminal",
    "write_status",
]
