"""`modem:` and `gnss:` in a recipe: what they take, what does not go together, what a feature brings for a board."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.engines.debian.resolve import make_request
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Board, Recipe
from cumulet_builder.recipe.radio import BoardModem, BoardReceiver

Write = Callable[[str, str], Path]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
MODEM = f"{HEAD}features: [base, modem-5g]\n"
GNSS = f"{HEAD}features: [base, gnss-beidou]\n"


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides)
    return [str(each) for each in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modem: {anp: cmnet}", "r.yaml:5:9: unknown key 'anp' in modem\n  did you mean 'apn'?"),
        (
            "modem: {pin: {form: env}}",
            "r.yaml:5:15: unknown key 'form' in modem.pin\n  did you mean 'from'?",
        ),
        (
            'modem: {pin: "1234"}',
            "r.yaml:5:14: modem.pin: a secret is never written here, only where the device finds it\n"
            "  pin: {from: env}, or {from: file}",
        ),
        (
            "modem: {pin: {from: fiel}}",
            "r.yaml:5:21: modem.pin.from: must be one of env, file, got 'fiel'\n  did you mean 'file'?",
        ),
        (
            "modem: {pin: {from: env, path: /etc/pin}}",
            "r.yaml:5:26: modem.pin.path: is not for from: env\n  env has a name, file has a path",
        ),
        (
            "modem: {pin: {from: file, path: /tmp/../etc/pin}}",
            "r.yaml:5:33: modem.pin.path: '/tmp/../etc/pin' is not a file on the device; name one below /etc, /data or "
            "/run, like /etc/cumulet/modem.pin",
        ),
        (
            "modem: {apn: 'cm net'}",
            "r.yaml:5:14: modem.apn: 'cm net' is not an access point name; write it like internet or cmnet",
        ),
        (
            "modem: {bands: [b3]}",
            "r.yaml:5:17: modem.bands[0]: 'b3' is not a band; write it as ModemManager does, like eutran-3, ngran-78 "
            "or egsm",
        ),
        (
            "modem: {generations: [6g]}",
            "r.yaml:5:23: modem.generations[0]: must be one of 2g, 3g, 4g, 5g, got '6g'",
        ),
        (
            "modem: {failover: [ethernet]}",
            "r.yaml:5:19: modem.failover: does not name the modem\n  failover: [ethernet, modem]",
        ),
    ],
)
def test_what_a_modem_cannot_be_told_is_said(write: Write, text: str, message: str) -> None:
    assert message in problems(write("r.yaml", f"{MODEM}{text}\n"))


@pytest.mark.parametrize("text", ['pin: "40927315"', "password: 40927315", "pin: [40927315]"])
def test_a_secret_that_was_written_into_a_recipe_is_in_no_message(write: Write, text: str) -> None:
    found = problems(write("r.yaml", f"{MODEM}modem: {{{text}}}\n"))
    assert len(found) == 2
    assert "40927315" not in "".join(found)


def test_everything_that_a_modem_can_be_told(write: Write) -> None:
    text = (
        "modem: {apn: cmnet, user: me, password: {from: file}, pin: {from: env, name: SIM_PIN}, bands: [eutran-3],"
        " generations: [4g, 5g], roaming: true, ip: ipv4, failover: [modem, ethernet]}\n"
    )
    modem = load_recipe(write("r.yaml", MODEM + text)).modem
    assert modem is not None
    assert modem.pin is not None
    assert (modem.apn, modem.pin.origin, modem.pin.name, modem.failover[0]) == ("cmnet", "env", "SIM_PIN", "modem")


def test_a_shown_recipe_can_be_read_again(write: Write) -> None:
    modem = load_recipe(write("r.yaml", f"{MODEM}modem: {{pin: {{from: env}}}}\n")).modem
    assert modem is not None
    assert modem.model_dump(mode="json")["pin"] == {"from": "env", "name": None, "path": None}


def test_a_part_needs_its_feature(write: Write) -> None:
    found = problems(write("r.yaml", f"{HEAD}features: [base]\nmodem: {{apn: cmnet}}\ngnss: {{}}\n"))
    assert found == [
        "r.yaml:5:1: modem: needs the feature 'modem-5g'\n  add modem-5g to features",
        "r.yaml:6:1: gnss: needs the feature 'gnss-beidou'\n  add gnss-beidou to features",
    ]


def own_board(write: Write, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """A recipes folder with the bundled features and the board `tiny`."""
    path = write(
        "recipes/boards/tiny.yaml",
        "version: 1\nboard: tiny\ntitle: Tiny phone\narchitecture: arm64\n"
        f"kernel: {{package: linux-image-arm64}}\n{more}",
    )
    for feature in (find_assets("recipes") / "features").glob("*.yaml"):
        write(f"recipes/features/{feature.name}", feature.read_text())
    monkeypatch.setattr("cumulet_builder.recipe.load.find_assets", lambda name: path.parents[1])


TINY = "version: 1\nimage: edge\nboard: tiny\ntest: []\nfeatures: [base, modem-5g, gnss-beidou]\n"


def test_a_feature_needs_its_part_of_the_board(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    own_board(write, monkeypatch)
    assert problems(write("r.yaml", TINY)) == [
        "r.yaml:5:18: feature 'modem-5g': no modem is known on the board Tiny phone\n"
        "  leave it out, or set board.modem.kind",
        "r.yaml:5:28: feature 'gnss-beidou': no satellite receiver is known on the board Tiny phone\n"
        "  leave it out, or set board.gnss.kind",
    ]


def test_a_modem_that_is_plugged_in_is_told_on_the_command_line(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    own_board(write, monkeypatch)
    path = write("r.yaml", TINY.replace(", gnss-beidou", ""))
    recipe = load_recipe(path, ["board.modem.kind=usb"])
    assert recipe.board.modem == BoardModem(kind="usb")


def test_beidou_that_the_receiver_cannot_hear_ends_a_build_before_it_starts(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_board(write, monkeypatch, "modem: {kind: usb}\ngnss: {kind: serial, constellations: [gps, glonass]}\n")
    found = problems(write("r.yaml", TINY))
    assert [each.partition(": ")[2] for each in found] == [
        "gnss.constellations: the receiver of Tiny phone cannot hear 'beidou'\n  it hears gps, glonass"
    ]


def test_the_feature_for_beidou_is_not_told_to_leave_beidou_out(write: Write) -> None:
    found = problems(write("r.yaml", GNSS), "gnss.constellations=[gps]")
    assert "gnss.constellations: the feature 'gnss-beidou' without 'beidou'" in found[0]


def test_a_recipe_adds_systems_to_those_of_the_feature(write: Write) -> None:
    gnss = load_recipe(write("r.yaml", f"{GNSS}gnss: {{constellations: [galileo, gps]}}\n")).gnss
    assert gnss is not None
    assert gnss.constellations == ("beidou", "gps", "galileo")


@pytest.mark.parametrize("board", sorted(path.stem for path in (find_assets("recipes") / "boards").glob("*.yaml")))
def test_every_board_takes_what_it_has(write: Write, board: str) -> None:
    plain = load_recipe(write("r.yaml", f"version: 1\nimage: edge\nboard: {board}\nfeatures: [base]\ntest: []\n")).board
    features = [*(["modem-5g"] if plain.modem else []), *(["gnss-beidou"] if plain.gnss else [])]
    text = f"version: 1\nimage: edge\nboard: {board}\ntest: []\nfeatures: [base, {', '.join(features)}]\n"
    recipe = load_recipe(write("r.yaml", text))
    assert (recipe.modem is not None, recipe.gnss is not None) == (plain.modem is not None, plain.gnss is not None)


@pytest.mark.parametrize("part", ["modem", "gnss"])
def test_a_boot_check_needs_what_it_checks(write: Write, part: str) -> None:
    assert f"test: '{part}' needs {part} in the image" in problems(write("r.yaml", f"{HEAD}test: [{part}]\n"))[0]


def test_a_boot_check_needs_a_port_in_qemu(write: Write) -> None:
    found = problems(write("r.yaml", f"{MODEM}test: [modem]\n"), "board.qemu.ports={}")
    assert "test: 'modem': the board has no port for it in QEMU" in found[0]


@pytest.mark.parametrize(
    ("kind", "packages"),
    [
        ("qcom", {"qrtr-tools", "rmtfs", "tqftpserv", "protection-domain-mapper", "libqmi-utils"}),
        ("eg25", {"eg25-manager"}),
        ("usb", {"usb-modeswitch", "libqmi-utils", "libmbim-utils"}),
    ],
)
def test_a_feature_brings_what_the_kind_of_modem_needs(
    write: Write, monkeypatch: pytest.MonkeyPatch, kind: str, packages: set[str]
) -> None:
    own_board(write, monkeypatch, f"modem: {{kind: {kind}}}\n")
    recipe = load_recipe(write("r.yaml", TINY.replace(", gnss-beidou", "")))
    plain = {"modemmanager", "network-manager", "ppp", "python3-dbus-fast"}
    base = set(yaml.safe_load((find_assets("recipes") / "features/base.yaml").read_text())["packages"])
    assert set(recipe.base_packages) == base | plain | packages


def test_every_case_of_a_feature_names_a_key_and_value_of_boards() -> None:
    known = {"modem.kind": BoardModem, "gnss.kind": BoardReceiver}
    for path in (find_assets("recipes") / "features").glob("*.yaml"):
        for key, cases in yaml.safe_load(path.read_text()).get("by_board", {}).items():
            top, _, last = key.partition(".")
            assert top in Board.model_fields, f"{path.name}: {key}"
            values = known[key].model_fields[last].annotation if key in known else None
            assert set(cases) <= set(getattr(values, "__args__", cases)), f"{path.name}: {key}"


def test_the_clock_is_chronys_alone(write: Write) -> None:
    request = make_request(load_recipe(write("r.yaml", GNSS)), "arm64", ())
    assert "chrony" in request.base
    assert "systemd-timesyncd" not in request.base
    assert (
        "systemd-timesyncd" in make_request(load_recipe(write("r.yaml", HEAD + "features: [base]\n")), "arm64", ()).base
    )


def test_the_schema_for_editors_knows_the_new_keys() -> None:
    from cumulet_builder.recipe.schema import make_schema

    assert "by_board" in make_schema("feature")["properties"]
    assert '"from"' in json.dumps(make_schema("recipe")["$defs"]["Secret"])
    assert "modem" in Recipe.model_fields
