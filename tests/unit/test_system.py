"""The system layer: its units and settings, and the script that decides what a node is."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cumulet_builder.recipe.model import Board, Kernel, Node, Recipe, Ssh
from cumulet_builder.render import render
from cumulet_builder.system import MASKED, make_system_tree

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmq somebody@somewhere"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmr else"
# dash is /bin/sh of the image; busybox has one of its own.
SHELLS = [
    pytest.param(words, id=words[0])
    for words in (["dash"], ["busybox", "sh"], ["bash", "--posix"])
    if shutil.which(words[0])
]


def make_recipe(**values: object) -> Recipe:
    board = Board(board="qemu-arm64", title="t", architecture="arm64", kernel=Kernel(package="linux-image-arm64"))
    return Recipe.model_validate({"version": 1, "image": "try", "board": board, **values})


@dataclass
class Machine:
    """A folder that stands for a machine's file system, on which the script is run."""

    root: Path
    shell: list[str]
    node: Node = field(default_factory=Node)

    def put(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def start(self, *, yaml: str = "", argument: str = "", firmware: str = "") -> subprocess.CompletedProcess[str]:
        self.put("etc/cumulet/node.yaml", yaml)
        self.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.put("proc/cmdline", f"root=PARTLABEL=root-a * quiet {argument} console=ttyAMA0\n")
        self.put("proc/sys/kernel/hostname", "")
        if firmware:
            self.put("sys/firmware/qemu_fw_cfg/by_name/opt/cumulet/node/raw", firmware)
        script = render("system/node-config.sh.j2", node=self.node)
        for top in ("run", "etc", "sys", "proc"):
            for before in (" ", "=", ">", "<"):
                script = script.replace(f"{before}/{top}/", f"{before}{self.root}/{top}/")
        self.put("node-config", script)
        words = [*self.shell, str(self.root / "node-config")]
        return subprocess.run(words, capture_output=True, text=True, check=True, cwd=self.root, timeout=20)

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    @property
    def env(self) -> dict[str, str]:
        pairs = (line.split("=", 1) for line in self.text("run/cumulet/node.env").splitlines())
        return {name.removeprefix("CUMULET_").lower(): value for name, value in pairs}

    @property
    def network(self) -> list[str]:
        return self.text("run/systemd/network/20-cumulet.network").splitlines()

    @property
    def keys(self) -> list[str]:
        return self.text("run/cumulet/authorized_keys").splitlines()


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def test_without_any_word_a_node_has_no_role_and_a_name_of_its_machine_id(machine: Machine) -> None:
    done = machine.start(yaml="version: 1\n")
    assert done.stderr == ""
    assert machine.env == {"role": "none", "hostname": "cumulet-012345", "address": ""}
    assert machine.text("proc/sys/kernel/hostname") == "cumulet-012345\n"
    assert (machine.root / "run/cumulet/role-none").exists()
    assert machine.network == [
        "[Match]",
        "Type=ether",
        "Kind=!*",
        "[Network]",
        "DHCP=yes",
        "[DHCPv4]",
        "UseHostname=no",
    ]
    assert machine.keys == []


def test_an_empty_machine_id_is_no_reason_to_stop(machine: Machine) -> None:
    machine.start(yaml="role: worker")
    machine.put("etc/machine-id", "")
    subprocess.run([*machine.shell, "node-config"], check=True, cwd=machine.root)
    assert machine.env == {"role": "worker", "hostname": "cumulet-000000", "address": ""}


def test_the_recipe_gives_the_defaults(machine: Machine) -> None:
    machine.node = Node(role="worker", hostname="edge-7")
    machine.start(yaml="version: 1\n")
    assert machine.env["role"] == "worker"
    assert machine.env["hostname"] == "edge-7"


def test_the_shipped_node_file_is_understood(machine: Machine) -> None:
    machine.node = Node(role="master", hostname="p1")
    done = machine.start(yaml=render("system/node.yaml.j2", node=machine.node))
    assert done.stderr == ""
    assert machine.env == {"role": "master", "hostname": "p1", "address": ""}


def test_firmware_beats_the_kernel_argument_which_beats_the_file(machine: Machine) -> None:
    machine.start(yaml="role: worker\nhostname: file\n")
    assert machine.env["hostname"] == "file"
    machine.start(yaml="role: worker\nhostname: file\n", argument="cumulet.node=role=master,hostname=argument")
    assert machine.env == {"role": "master", "hostname": "argument", "address": ""}
    machine.start(
        yaml="role: worker\n", argument="cumulet.node=role=master", firmware="role: single\nhostname: firmware\n"
    )
    assert machine.env == {"role": "single", "hostname": "firmware", "address": ""}


def test_a_kernel_argument_of_words(machine: Machine) -> None:
    argument = "cumulet.node=role=control,hostname=x,address=fd00::5/64,gateway=fd00::1,dns=fd00::2"
    assert machine.start(argument=argument).stderr == ""
    assert machine.env == {"role": "control", "hostname": "x", "address": "fd00::5"}
    assert machine.network[-7:] == [
        "Address=fd00::5/64", "DNS=fd00::2", "[DHCPv4]", "UseHostname=no", "[Route]", "Gateway=fd00::1", "Metric=1024"
    ]  # fmt: skip


@pytest.mark.parametrize("hostname", ["a", "ab", "abc"])
def test_a_kernel_argument_in_base64_whatever_its_padding(machine: Machine, hostname: str) -> None:
    text = f"role: single\nhostname: {hostname}\n"
    done = machine.start(argument=f"cumulet.node={base64.b64encode(text.encode()).decode()}")
    assert done.stderr == ""
    assert machine.env == {"role": "single", "hostname": hostname, "address": ""}


def test_a_kernel_argument_that_is_neither_leaves_the_file_in_force(machine: Machine) -> None:
    done = machine.start(yaml="role: worker\n", argument="cumulet.node=%%%")
    assert "neither key=value nor base64" in done.stderr
    assert machine.env["role"] == "worker"


def test_keys_and_name_servers_as_lists(machine: Machine) -> None:
    yaml = f"""\
version: 1
role: single   # the only one
ssh_authorized_keys:
  # - {OTHER}
  - {KEY}
  - "{OTHER}"
dns:
- 10.0.0.1
- 10.0.0.2  # the slow one
address: 10.0.0.11/24
gateway: '10.0.0.254'
interface: end0
"""
    assert machine.start(yaml=yaml).stderr == ""
    assert machine.keys == [KEY, OTHER]
    assert machine.env == {"role": "single", "hostname": "cumulet-012345", "address": "10.0.0.11"}
    assert machine.network == [
        "[Match]", "Name=end0", "[Network]", "Address=10.0.0.11/24",
        "DNS=10.0.0.1", "DNS=10.0.0.2", "[DHCPv4]", "UseHostname=no",
        "[Route]", "Gateway=10.0.0.254", "Metric=1024",
    ]  # fmt: skip


def test_lists_within_one_line(machine: Machine) -> None:
    yaml = f"dns: [10.0.0.1, '10.0.0.2']  # two\nssh_authorized_keys: [\"{KEY}\"]\nrole: worker"
    assert machine.start(yaml=yaml).stderr == ""
    assert [line for line in machine.network if line.startswith("DNS=")] == ["DNS=10.0.0.1", "DNS=10.0.0.2"]
    assert machine.keys == [KEY]
    assert machine.env["role"] == "worker"


@pytest.mark.parametrize("indent", [1, 2, 4])
def test_a_document_in_json(machine: Machine, indent: int) -> None:
    document = {
        "version": 1, "role": "single", "hostname": "x", "gateway": None,
        "ssh_authorized_keys": [KEY, OTHER], "dns": [], "address": "dhcp",
    }  # fmt: skip
    assert machine.start(firmware=json.dumps(document, indent=indent)).stderr == ""
    assert machine.env == {"role": "single", "hostname": "x", "address": ""}
    assert machine.keys == [KEY, OTHER]


@pytest.mark.parametrize(
    "line",
    ["hostname: x", "hostname:   x  ", 'hostname: "x"', "hostname: 'x'  # why", 'hostname: "x" # why', "hostname: x\r"],
)
def test_quotes_blanks_and_comments_are_no_part_of_a_value(machine: Machine, line: str) -> None:
    assert machine.start(yaml=f"---\n\n# a comment\n{line}\nrole: worker").stderr == ""
    assert machine.env == {"role": "worker", "hostname": "x", "address": ""}


def test_an_unknown_role_is_none_with_a_message(machine: Machine) -> None:
    done = machine.start(yaml="role: boss\n")
    assert "unknown role 'boss'; one of: none single control master worker" in done.stderr
    assert machine.env["role"] == "none"
    assert (machine.root / "run/cumulet/role-none").exists()


def test_unknown_keys_newer_versions_and_bad_names_are_told_and_survived(machine: Machine) -> None:
    done = machine.start(yaml="version: 2\nrol: single\nhostname: a b\nrole: worker\n")
    assert "version 2 is newer" in done.stderr
    assert "unknown key 'rol'" in done.stderr
    assert "'a b' cannot be a host name" in done.stderr
    assert machine.env == {"role": "worker", "hostname": "cumulet-012345", "address": ""}


def test_the_layer_does_not_depend_on_when_it_is_made() -> None:
    assert make_system_tree(make_recipe(), "1").nodes == make_system_tree(make_recipe(), "1").nodes
    assert b"1" in make_system_tree(make_recipe(), "1").read("/usr/lib/os-release")


def test_units_of_our_own_are_there_and_wanted() -> None:
    tree = make_system_tree(make_recipe(), "b")
    wants = {path: node.target for path, node in tree.nodes.items() if ".wants/cumulet-" in path}
    assert wants
    for path, target in wants.items():
        assert tree.nodes[target].kind == "file", path
    assert tree.nodes["/usr/lib/cumulet/node-config"].mode == 0o755


def test_masks_are_links_to_nowhere_unless_the_recipe_enables_the_unit() -> None:
    tree = make_system_tree(make_recipe(mask=("gpsd.service",), enable=("fstrim.timer",)), "b")
    for unit in {*MASKED, "gpsd.service"} - {"fstrim.timer"}:
        assert tree.nodes[f"/etc/systemd/system/{unit}"].target == "/dev/null"
    assert "/etc/systemd/system/fstrim.timer" not in tree.nodes
    wanted = tree.nodes["/etc/systemd/system/multi-user.target.wants/fstrim.timer"]
    assert wanted.target == "/usr/lib/systemd/system/fstrim.timer"


def test_nobody_has_a_password_and_only_the_recipes_keys_log_in() -> None:
    tree = make_system_tree(make_recipe(ssh=Ssh(authorized_keys=(KEY, OTHER))), "b")
    assert tree.read("/usr/share/cumulet/authorized_keys").decode() == f"{KEY}\n{OTHER}\n"
    settings = tree.read("/etc/ssh/sshd_config.d/10-cumulet.conf").decode()
    assert "PasswordAuthentication no" in settings
    assert "/etc/shadow" not in tree.nodes


def test_without_ssh_its_units_are_masked_and_no_setting_is_written() -> None:
    tree = make_system_tree(make_recipe(ssh=Ssh(enabled=False)), "b")
    assert tree.nodes["/etc/systemd/system/ssh.service"].target == "/dev/null"
    assert not [path for path in tree.nodes if path.startswith("/etc/ssh")]


@pytest.mark.parametrize(
    ("packages", "there"), [((), False), (("systemd-resolved",), True), (("systemd-resolved=257.8-1",), True)]
)
def test_the_resolvers_file_is_a_link_only_where_the_resolver_is(packages: tuple[str, ...], there: bool) -> None:
    tree = make_system_tree(make_recipe(base_packages=packages), "b")
    assert ("/etc/resolv.conf" in tree.nodes) is there


def test_scripts_are_correct_shell(tmp_path: Path, need: Callable[[str], str]) -> None:
    tree = make_system_tree(make_recipe(), "b")
    scripts = [path for path in tree.nodes if tree.nodes[path].mode == 0o755 and tree.nodes[path].kind == "file"]
    assert len(scripts) >= 2
    for number, path in enumerate(scripts):
        script = tmp_path / str(number)
        script.write_bytes(tree.read(path))
        subprocess.run([need("dash"), "-n", os.fspath(script)], check=True)
