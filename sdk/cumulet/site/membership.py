"""Who belongs to a site: operations that change its document together with its devices.

The document says what should be. A device that comes is written down first and brought
in then; one that leaves is taken out first. So whatever is cut off, the same command,
or `site up`, ends it.
"""

from __future__ import annotations

from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet.core.files import write_text
from cumulet.site import edit
from cumulet.site.model import SiteNode, parse_site
from cumulet.site.site import Listener, Outcome, Site, ignore


def add(path: Path, node: SiteNode, listen: Listener = ignore) -> Outcome:
    """Write a worker into the document and bring it in. Raises UsageError if the document would be wrong."""
    text = path.read_text()
    site = Site.load(path)
    known = site.document.node(node.name)
    if known is None:
        _write(path, edit.add_node(text, node.name, node.address, node.role))
    elif (known.address, known.role) != (node.address, node.role):
        message = f"{node.name}: is in the document already, as {known.role} at {known.address}"
        raise UsageError(message, hint="choose another name, or: cumulet site up")
    return Site.load(path).up(listen)


def remove(path: Path, name: str, listen: Listener = ignore) -> Outcome:
    """Take a worker out of the site and then out of the document."""
    outcome = Site.load(path).remove(name, listen)
    _write(path, edit.remove_node(path.read_text(), name))
    return outcome


def promote(path: Path, witness: str | None = None, listen: Listener = ignore) -> Outcome:
    """A server is gone for good: the control node becomes a master in its place, a worker the third vote.

    If it is the control node that is gone, the worker becomes the new one. Which server
    is gone is found by asking: it is the one that does not answer. Raises UsageError if
    none is, or if more are.
    """
    site = Site.load(path)
    status = site.status()
    lost = [node.name for node in status.nodes if node.state == "unreachable" and node.role != "worker"]
    if len(lost) != 1:
        what = f"{', '.join(lost)} do not answer" if lost else "every server answers"
        hint = "with two of three gone there is no majority: cumulet site restore" if lost else "cumulet site status"
        raise UsageError(f"nothing to be promoted: {what}", hint=hint)
    third = witness or choose_witness(site, {node.name for node in status.nodes if node.state == "ready"})
    text = make_promoted(path.read_text(), site, lost[0], third)
    parse_site(text, str(path))
    site.forget(lost[0], listen)
    _write(path, text)
    return Site.load(path).up(listen)


def choose_witness(site: Site, ready: set[str]) -> str:
    """The worker that becomes the third vote: the last in the document that is Ready. Raises UsageError."""
    workers = [node.name for node in site.document.nodes if node.role == "worker" and node.name in ready]
    if not workers:
        hint = "cumulet site add NAME ADDRESS first"
        raise UsageError("no worker is Ready that could be the third vote: two votes are no better than one", hint=hint)
    return workers[-1]


def make_promoted(text: str, site: Site, lost: str, witness: str) -> str:
    """The document after a promotion. Raises UsageError for a witness that is no worker."""
    node = site.document.node(witness)
    if node is None or node.role != "worker":
        raise UsageError(f"{witness}: is not a worker of this site", hint="--witness WORKER")
    control = site.document.control.name
    if lost != control:
        text = edit.change_role(text, control, "master")
    return edit.remove_node(edit.change_role(text, witness, "control"), lost)


def _write(path: Path, text: str) -> None:
    parse_site(text, str(path))
    write_text(path, text)
