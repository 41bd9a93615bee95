"""The settings of modem and receiver: files with their modes, and the scripts on a folder that stands for a device."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet_builder.radio import make_notes, make_place, make_radio_tree, make_rules
from cumulet_builder.recipe.model import Board, Kernel, Recipe
from cumulet_builder.recipe.radio import Secret
from cumulet_builder.rootfs import make_settings_tree

PIN = "40927315"
PROFILE = "run/NetworkManager/system-connections/cumulet-modem.nmconnection"
SERIAL = 'KERNELS=="0000:00:10.0"'
SHELLS = [name for name in ("dash", "bash") if shutil.which(name)]
EG25 = """    { cmd = "QGPSXTRA", expect = "1" },
    { cmd = "QGPSCFG", subcmd = "gnssconfig", expect = "4" },
    { cmd = "QGPSCFG", subcmd = "gpsnmeatype", expect = "31" },
    { cmd = "QGPSCFG", subcmd = "glonassnmeatype", expect = "7" },
    { cmd = "QGPSCFG", subcmd = "galileonmeatype", expect = "0" },
    { cmd = "QGPSCFG", subcmd = "beidounmeatype", expect = "0" },
    { cmd = "QGPSCFG", subcmd = "autogps", expect = "0" },
    { cmd = "QCFG", subcmd = "fast/poweroff", expect = "0" },
"""


def make_recipe(**values: object) -> Recipe:
    parts = {name: values.pop(f"board_{name}", None) for name in ("modem", "gnss")}
    board = Board(board="tiny", title="Tiny", architecture="arm64", kernel=Kernel(package="linux-image-arm64"))
    board = Board.model_validate({**board.model_dump(), **parts})
    return Recipe.model_validate({"version": 1, "image": "try", "board": board, **values})


class Device:
    """A folder that stands for a device, on which the scripts of a recipe are run."""

    def __init__(self, root: Path, recipe: Recipe, shell: str = "dash") -> None:
        self.root, self.recipe, self.shell = root, recipe, shell

    def put(self, path: str, text: str, mode: int = 0o600) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def run(self, name: str, *words: str, programs: dict[str, str] | None = None, **env: str) -> str:
        """Run a script of ours; returns what it wrote on standard error."""
        script = make_radio_tree(self.recipe).read(f"/usr/lib/cumulet/{name}").decode()
        for top in ("run", "etc", "sys", "data", "usr"):
            for before in (" ", "=", "'", "<", '"'):
                script = script.replace(f"{before}/{top}/", f"{before}{self.root}/{top}/")
        for program, text in (programs or {}).items():
            self.put(f"bin/{program}", f"#!/bin/sh\n{text}\n", 0o755)
        self.put("script", script)
        path = f"{self.root}/bin:{os.environ['PATH']}"
        argv = [self.shell, str(self.root / "script"), *words]
        done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": path, **env}, timeout=20, check=True)
        return done.stderr.replace(str(self.root), "")

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def profile(self) -> dict[str, dict[str, str]]:
        sections: dict[str, dict[str, str]] = {}
        for line in self.text(PROFILE).splitlines():
            if line.startswith("["):
                sections[line.strip("[]")] = current = {}
            else:
                key, _, value = line.partition("=")
                current[key] = value
        return sections


@pytest.fixture(params=SHELLS)
def make_device(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Device]:
    return lambda **modem: Device(tmp_path, make_recipe(modem=modem, board_modem={"kind": "usb"}), request.param)


# The profile of the connection.


def test_the_profile_says_what_the_recipe_says(make_device: Callable[..., Device]) -> None:
    device = make_device(apn="cmnet", ip="ipv4")
    assert device.run("modem-profile") == ""
    profile = device.profile()
    assert profile["gsm"] == {"apn": "cmnet", "home-only": "true"}
    assert profile["ipv4"] == {"method": "auto", "route-metric": "2048"}
    assert profile["ipv6"] == {"method": "disabled"}
    assert profile["connection"]["autoconnect-retries"] == "0"
    assert (device.root / PROFILE).stat().st_mode & 0o777 == 0o600
    assert not (device.root / "run/cumulet/modem-radio").exists()


@pytest.mark.parametrize(
    ("failover", "metric"), [(["modem", "ethernet"], "512"), (["ethernet", "modem"], "2048"), (["modem"], "512")]
)
def test_the_order_of_uplinks_is_a_metric(make_device: Callable[..., Device], failover: list[str], metric: str) -> None:
    device = make_device(failover=failover)
    device.run("modem-profile")
    assert device.profile()["ipv4"]["route-metric"] == metric


def test_what_was_changed_on_the_device_wins(make_device: Callable[..., Device]) -> None:
    device = make_device(apn="cmnet", bands=["eutran-3"])
    device.put(
        "etc/cumulet/modem.conf", "# changed\napn=3gnet\nroaming=yes\nfailover=modem ethernet\nbands=ngran-78 eutran-1"
    )
    assert device.run("modem-profile") == ""
    profile = device.profile()
    assert profile["gsm"] == {"apn": "3gnet"}
    assert profile["ipv6"]["route-metric"] == "512"
    assert device.text("run/cumulet/modem-radio") == "bands='ngran-78|eutran-1'\ngenerations=''\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("apn=$(reboot)", "modem: /etc/cumulet/modem.conf: apn: not a name; not used\n"),
        ("bands=`reboot`", "modem: /etc/cumulet/modem.conf: bands: not a list of names; not used\n"),
        ("roaming=perhaps", "modem: /etc/cumulet/modem.conf: roaming: yes or no; not used\n"),
        ("pin=1234", "modem: /etc/cumulet/modem.conf: unknown key 'pin'\n"),
    ],
)
def test_what_cannot_be_right_is_not_used(make_device: Callable[..., Device], line: str, message: str) -> None:
    device = make_device(apn="cmnet")
    device.put("etc/cumulet/modem.conf", f"{line}\n")
    assert device.run("modem-profile") == message
    assert device.profile()["gsm"] == {"apn": "cmnet", "home-only": "true"}


# Secrets.


def test_a_pin_comes_from_the_environment(make_device: Callable[..., Device]) -> None:
    device = make_device(pin={"from": "env", "name": "SIM_PIN"})
    assert device.run("modem-profile", SIM_PIN=PIN) == ""
    assert device.profile()["gsm"]["pin"] == PIN


def test_a_pin_that_is_not_there_is_said(make_device: Callable[..., Device]) -> None:
    device = make_device(pin={"from": "env"})
    said = device.run("modem-profile")
    assert "no pin: variable CUMULET_MODEM_PIN of cumulet-modem.service" in said
    assert "pin" not in device.profile()["gsm"]


@pytest.mark.parametrize(("mode", "read"), [(0o600, True), (0o400, True), (0o640, False), (0o644, False)])
def test_a_file_with_a_pin_is_read_if_only_root_may(make_device: Callable[..., Device], mode: int, read: bool) -> None:
    device = make_device(pin={"from": "file", "path": "/etc/cumulet/sim"})
    device.put("etc/cumulet/sim", f"{PIN}\n", mode)
    # Whoever runs the test stands for root.
    stat = f"echo {mode:o}:0"
    said = device.run("modem-profile", programs={"stat": stat})
    assert device.profile()["gsm"].get("pin") == (PIN if read else None)
    assert said == (
        ""
        if read
        else (
            "modem: no pin: /etc/cumulet/sim: not read, because others than root may read it; "
            "chmod 600 /etc/cumulet/sim\n"
        )
    )


def test_a_file_of_somebody_else_is_not_read(make_device: Callable[..., Device]) -> None:
    device = make_device(pin={"from": "file"})
    device.put("etc/cumulet/modem.pin", PIN)
    assert "not read" in device.run("modem-profile", programs={"stat": "echo 600:1000"})


def test_what_the_machine_was_told_wins(make_device: Callable[..., Device]) -> None:
    device = make_device(pin={"from": "env"})
    device.put("sys/firmware/qemu_fw_cfg/by_name/opt/cumulet/modem-pin/raw", PIN)
    device.run("modem-profile", CUMULET_MODEM_PIN="1111")
    assert device.profile()["gsm"]["pin"] == PIN


def test_no_message_holds_a_secret(make_device: Callable[..., Device]) -> None:
    device = make_device(pin={"from": "env"}, password={"from": "file"})
    device.put("etc/cumulet/modem.password", "geheim", 0o644)
    said = device.run("modem-profile", CUMULET_MODEM_PIN="12x4", programs={"stat": "echo 644:0"})
    assert "no pin: what is there is not a number" in said
    assert "12x4" not in said
    assert "geheim" not in said
    assert "geheim" not in device.text(PROFILE)


def test_a_password_is_written_as_the_profile_needs_it(make_device: Callable[..., Device]) -> None:
    device = make_device(password={"from": "env", "name": "SECRET"}, user="me")
    device.run("modem-profile", SECRET=" a\\b")
    assert device.profile()["gsm"]["password"] == "\\sa\\\\b"
    assert device.profile()["gsm"]["username"] == "me"


def test_no_secret_is_in_the_image() -> None:
    os.environ["CUMULET_MODEM_PIN"] = PIN
    try:
        tree = make_settings_tree(make_recipe(modem={"pin": {"from": "env"}}, board_modem={"kind": "usb"}), "")
    finally:
        del os.environ["CUMULET_MODEM_PIN"]
    assert [path for path in tree.nodes if PIN.encode() in tree.read(path)] == []


def test_a_secret_has_a_place_by_default() -> None:
    assert make_place(Secret(origin="env"), "pin") == "CUMULET_MODEM_PIN"
    assert make_place(Secret(origin="file"), "password") == "/etc/cumulet/modem.password"


# Bands.


def test_a_modem_that_appears_is_told_its_bands(make_device: Callable[..., Device]) -> None:
    device = make_device(bands=["eutran-3", "ngran-78"], generations=["4g", "5g"])
    device.run("modem-profile")
    mmcli = f"""case "$*" in
--monitor-modems) printf 'Found 1 modems:\\n\\t/org/x/ModemManager1/Modem/3 [Q] EG25\\n(-) removed: /x/Modem/2\\n' ;;
*) echo "$*" >>{device.root}/asked ;;
esac"""
    assert device.run("modem-radio", programs={"mmcli": mmcli}) == ""
    assert device.text("asked").splitlines() == [
        "-m 3 --set-allowed-modes=4g|5g",
        "-m 3 --set-current-bands=eutran-3|ngran-78",
    ]


def test_a_modem_that_refuses_bands_is_said(make_device: Callable[..., Device]) -> None:
    device = make_device(bands=["eutran-3"])
    device.run("modem-profile")
    mmcli = """case "$*" in
--monitor-modems) echo '(+) added: /org/freedesktop/ModemManager1/Modem/0 [Q] EG25' ;;
*) echo 'error: Unsupported' >&2; exit 1 ;;
esac"""
    said = device.run("modem-radio", programs={"mmcli": mmcli})
    assert said == "modem 0: set-current-bands=eutran-3: refused: error: Unsupported\n"


# The files of the image.


def test_without_modem_and_receiver_there_is_nothing() -> None:
    assert make_radio_tree(make_recipe()).nodes == {}


def test_everything_is_there_with_its_modes_and_started() -> None:
    tree = make_radio_tree(
        make_recipe(
            modem={},
            gnss={"pps": True, "offset": 0.25},
            board_modem={"kind": "serial", "match": SERIAL},
            board_gnss={"kind": "serial", "match": SERIAL.replace("10", "11"), "constellations": ["beidou", "gps"]},
        )
    )
    wants = {path.rpartition("/")[2] for path in tree.nodes if "multi-user.target.wants/" in path}
    assert wants == {"cumulet-modem.service", "cumulet-modem-radio.service", "cumulet-gnss.service"}
    scripts = {path: node.mode for path, node in tree.walk() if path.startswith("/usr/lib/cumulet/")}
    assert set(scripts.values()) <= {0o755}
    assert (
        "refclock SHM 0 refid GNSS poll 3 dpoll 0 filter 5 offset 0.25"
        in tree.read("/etc/chrony/conf.d/cumulet.conf").decode()
    )
    assert "refclock PPS /dev/pps0" in tree.read("/etc/chrony/conf.d/cumulet.conf").decode()
    assert 'DEVICES=""' in tree.read("/etc/default/gpsd").decode()
    rules = tree.read("/usr/lib/udev/rules.d/78-cumulet-radio.rules").decode()
    assert f'SUBSYSTEM=="tty", {SERIAL}, ENV{{ID_MM_DEVICE_PROCESS}}="1"' in rules
    assert 'ENV{SYSTEMD_WANTS}+="gpsdctl@%k.service"' in rules
    # A gpsd that is started again has lost the receiver.
    assert "gpsdctl@$${port##*/}.service" in tree.read("/usr/lib/systemd/system/gpsd.service.d/cumulet.conf").decode()
    assert "PartOf=gpsd.service" in tree.read("/usr/lib/systemd/system/gpsdctl@.service.d/cumulet.conf").decode()


def test_a_modem_on_usb_needs_no_rules() -> None:
    assert make_rules(make_recipe(modem={}, board_modem={"kind": "usb"})) == ""


def test_a_receiver_in_the_soc_hands_its_sentences_to_gpsd() -> None:
    recipe = make_recipe(gnss={}, board_gnss={"kind": "qcom", "constellations": ["beidou", "gps"]})
    tree = make_radio_tree(recipe)
    assert 'DEVICES="udp://127.0.0.1:10110"' in tree.read("/etc/default/gpsd").decode()
    assert "--loc-set-nmea-types=all" in tree.read("/usr/lib/cumulet/receiver").decode()
    assert make_rules(recipe) == ""


def test_systems_that_nobody_has_seen_are_said_before_a_build() -> None:
    board = {"kind": "qcom", "constellations": ["beidou", "gps"], "untested": ["beidou"]}
    assert make_notes(make_recipe(gnss={}, board_gnss=board)) == [
        "gnss: beidou: asked for, not seen yet on Tiny; the device says after its start if it sees it"
    ]
    assert make_notes(make_recipe(gnss={}, board_gnss={**board, "untested": []})) == []
    assert make_notes(make_recipe()) == []


# Receivers.


def make_receiver(tmp_path: Path, *asked: str) -> Device:
    gnss = {"constellations": asked}
    return Device(tmp_path, make_recipe(gnss=gnss, board_gnss={"kind": "eg25", "constellations": asked}))


def test_the_eg25_is_told_the_systems_of_the_recipe(tmp_path: Path) -> None:
    device = make_receiver(tmp_path, "beidou", "gps")
    device.put("usr/share/eg25-manager/pine64,pinephone-1.2.toml", EG25)
    device.put("usr/share/eg25-manager/other.toml", "nothing = 1\n")
    assert device.run("receiver") == ""
    lines = device.text("etc/eg25-manager/pine64,pinephone-1.2.toml").splitlines()
    values = {line.split('"')[3]: line.split('"')[5] for line in lines if "subcmd" in line}
    assert values == {
        "gnssconfig": "1",
        "gpsnmeatype": "31",
        "glonassnmeatype": "0",
        "galileonmeatype": "0",
        "beidounmeatype": "3",
        "gsvextnmeatype": "1",
        "autogps": "1",
        "fast/poweroff": "0",
    }
    assert lines[0] == EG25.splitlines()[0]
    assert not (tmp_path / "etc/eg25-manager/other.toml").exists()


def test_settings_that_are_not_as_expected_are_said(tmp_path: Path) -> None:
    device = make_receiver(tmp_path, "beidou")
    device.put("usr/share/eg25-manager/new.toml", "nothing = 1\n")
    assert "no settings for the receiver found" in device.run("receiver")


QMICLI = """echo "$*" >>ROOT/asked
case "$*" in
*engine-lock*) printf "[qrtr://0] Client ID not released:\\n\\tService: 'loc'\\n\\t    CID: '7'\\n" ;;
*follow-nmea*) printf '[qrtr://0] NMEA:\\n  $GBGSV,1,1,01,03,20,111,33*43\\n' ;;
esac"""


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not on this computer")
def test_the_receiver_of_a_soc_is_one_client_and_its_sentences_are_handed_on(tmp_path: Path) -> None:
    recipe = make_recipe(gnss={}, board_gnss={"kind": "qcom", "constellations": ["beidou", "gps"]})
    device = Device(tmp_path, recipe, "bash")
    # It ends when the sentences do, and is started again by systemd.
    with pytest.raises(subprocess.CalledProcessError):
        device.run("receiver", programs={"qmicli": QMICLI.replace("ROOT", str(tmp_path))})
    asked = device.text("asked").splitlines()
    assert [line.split("--")[-1] for line in asked] == [
        "loc-set-engine-lock=mt",
        "loc-set-nmea-types=all",
        "loc-start",
        "loc-follow-nmea",
    ]
    assert all("--client-cid=7 " in line for line in asked[1:])
