"""What a node has for its modem and its satellite receiver: settings, units and scripts, whichever engine builds it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from cumulet_builder.recipe.model import Recipe
from cumulet_builder.recipe.radio import BoardReceiver, Secret
from cumulet_builder.render import render
from cumulet_builder.tree import Tree

UNITS = "/usr/lib/systemd/system"
WANTS = "/etc/systemd/system/multi-user.target.wants"
OURS = "/usr/lib/cumulet"
# The same on every device: a profile that somebody changed by hand is then still found as ours.
PROFILE = uuid.uuid5(uuid.NAMESPACE_DNS, "modem.cumulet")
# Where a receiver of a modem on USB has its sentences.
EG25_PORT = 'ATTRS{idVendor}=="2c7c", ATTRS{idProduct}=="0125", ENV{ID_USB_INTERFACE_NUM}=="01"'
# A receiver without a port of its own hands its sentences to this one.
RELAY = "udp://127.0.0.1:10110"


def make_radio_tree(recipe: Recipe) -> Tree:
    """The layer of a recipe's `modem` and `gnss`; empty without them."""
    tree = Tree()
    if recipe.modem is not None:
        _add_modem(tree, recipe)
    if recipe.gnss is not None:
        _add_receiver(tree, recipe)
    rules = make_rules(recipe)
    if rules:
        tree.file("/usr/lib/udev/rules.d/78-cumulet-radio.rules", rules)
    return tree


def make_place(secret: Secret, what: str) -> str:
    """Where a secret is: the name of its variable, or the path of its file."""
    if secret.origin == "env":
        return secret.name or f"CUMULET_MODEM_{what.upper()}"
    return secret.path or f"/etc/cumulet/modem.{what}"


def make_rules(recipe: Recipe) -> str:
    """udev rules for the ports of modem and receiver; empty if none needs one."""
    board = recipe.board
    receiver = _find_port(board.gnss) if board.gnss else None
    text = render("radio/modem.rules.j2", board=board, modem=recipe.modem, gnss=recipe.gnss, receiver=receiver)
    return text if text.strip() else ""


def make_chrony_text(recipe: Recipe, whole: bool = False) -> str:
    """chrony's settings for the receiver; with `whole`, all that it needs beside them."""
    return render("radio/chrony.conf.j2", gnss=recipe.gnss, whole=whole)


def make_notes(recipe: Recipe) -> list[str]:
    """What people should know before a build, one sentence each: systems that nobody has seen the board receive."""
    board, gnss = recipe.board, recipe.gnss
    if gnss is None or board.gnss is None:
        return []
    return [
        f"gnss: {name}: asked for, not seen yet on {board.title}; the device says after its start if it sees it"
        for name in gnss.constellations
        if name in board.gnss.untested
    ]


def _add_modem(tree: Tree, recipe: Recipe) -> None:
    values: Mapping[str, object] = {"modem": recipe.modem, "place": make_place, "uuid": PROFILE}
    tree.file(f"{OURS}/modem-profile", render("radio/modem-profile.sh.j2", **values), 0o755)
    tree.file(f"{OURS}/modem-radio", render("radio/modem-radio.sh.j2"), 0o755)
    tree.file("/etc/NetworkManager/conf.d/cumulet.conf", render("radio/networkmanager.conf.j2"))
    tree.file("/usr/lib/modules-load.d/cumulet-modem.conf", render("radio/modem-modules.conf.j2"))
    for unit in ("cumulet-modem.service", "cumulet-modem-radio.service"):
        _add_unit(tree, unit, render(f"radio/{unit}.j2"))


def _add_receiver(tree: Tree, recipe: Recipe) -> None:
    board = recipe.board.gnss
    kind = board.kind if board else "serial"
    tree.file("/etc/default/gpsd", render("radio/gpsd.j2", device=RELAY if kind == "qcom" else ""))
    tree.file("/etc/chrony/conf.d/cumulet.conf", make_chrony_text(recipe))
    tree.file(f"{OURS}/gnss-check", render("radio/gnss-check.sh.j2", gnss=recipe.gnss), 0o755)
    tree.file(f"{UNITS}/gpsdctl@.service.d/cumulet.conf", render("radio/gpsdctl.conf.j2"))
    tree.file(f"{UNITS}/gpsd.service.d/cumulet.conf", render("radio/gpsd-again.conf.j2"))
    _add_unit(tree, "cumulet-gnss.service", render("radio/cumulet-gnss.service.j2"))
    if kind != "serial":
        tree.file(f"{OURS}/receiver", render(f"radio/receiver-{kind}.sh.j2", gnss=recipe.gnss), 0o755)
        _add_unit(tree, "cumulet-receiver.service", render(f"radio/receiver-{kind}.service.j2"))


def _add_unit(tree: Tree, name: str, text: str) -> None:
    tree.file(f"{UNITS}/{name}", text)
    tree.link(f"{WANTS}/{name}", f"{UNITS}/{name}")


def _find_port(receiver: BoardReceiver) -> str | None:
    return EG25_PORT if receiver.kind == "eg25" else receiver.match
