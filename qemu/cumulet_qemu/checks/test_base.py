"""Every image: it reaches running, its root cannot be changed, its data grew, nobody has a password."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet_qemu import ssh
from cumulet_qemu.guest import RUNNING_SECONDS, Guest, Patience
from cumulet_qemu.nodefile import HOSTNAME
from cumulet_qemu.published import Published
from cumulet_qemu.vm import VirtualMachine

CLOCK_SECONDS = 300
SECTOR = 512
LOCKED = ("*", "!", "!*", "!!")


@pytest.fixture(scope="module")
def lower(node: Guest) -> str:
    """The root file system as published, without the layers that a running machine puts over it."""
    folder = "/run/cumulet-lower"
    node.output(f"mkdir -p {folder} && mount --bind / {folder}")
    return folder


@pytest.fixture
def with_ssh(image: Published) -> None:
    """Only for images that one can log in to."""
    if not image.ssh:
        pytest.skip("the recipe leaves ssh out of this image")


def test_system_reaches_running(vm: VirtualMachine, node: Guest, patience: Patience) -> None:
    outcome = node.run("systemctl is-system-running --wait", RUNNING_SECONDS)
    failed = node.run("systemctl list-units --failed --no-legend --plain").output
    assert outcome.output.strip() == "running", failed
    assert vm.wait_state("running", patience(RUNNING_SECONDS)) > 0


def test_no_unit_has_failed(node: Guest) -> None:
    assert node.output("systemctl list-units --failed --no-legend --plain") == ""


def test_root_is_mounted_read_only(node: Guest) -> None:
    kind, options = node.output("awk '$2 == \"/\" {print $3, $4}' /proc/self/mounts").splitlines()[-1].split()
    assert kind == "erofs"
    assert "ro" in options.split(",")


def test_root_refuses_a_write(node: Guest) -> None:
    outcome = node.run("touch /usr/bin/cumulet-check")
    assert outcome.code != 0
    assert "Read-only file system" in outcome.output


def test_nobody_but_root_may_change_the_top_folders(node: Guest) -> None:
    # sshd trusts no key below a folder that others may write to; a sticky folder is shared on purpose.
    assert node.output("find / -xdev -maxdepth 2 -perm -0002 ! -type l ! -perm -1000") == ""


def test_etc_and_var_take_a_write(node: Guest) -> None:
    for path in ("/etc/cumulet-write", "/var/lib/cumulet-write"):
        assert node.output(f"echo written > {path} && cat {path} && rm {path}") == "written"


def test_data_partition_grew_to_the_end_of_the_disk(image: Published, node: Guest) -> None:
    source = node.output("awk '$2 == \"/data\" {print $1}' /proc/self/mounts").splitlines()[-1]
    partition = node.output(f'basename "$(readlink -f {source})"')
    disk = node.output(f'basename "$(dirname "$(readlink -f /sys/class/block/{partition})")"')
    block = "/sys/class/block"
    start, size, whole = map(
        int, node.output(f"cat {block}/{partition}/start {block}/{partition}/size {block}/{disk}/size").split()
    )
    # The backup partition table and the last bytes of an alignment step stay unused.
    assert (whole - start - size) * SECTOR <= 4 << 20
    assert whole * SECTOR > image.file("disk.img").stat().st_size


def test_data_file_system_fills_its_partition(node: Guest) -> None:
    source = node.output("awk '$2 == \"/data\" {print $1}' /proc/self/mounts").splitlines()[-1]
    partition = node.output(f'basename "$(readlink -f {source})"')
    size = int(node.output(f"cat /sys/class/block/{partition}/size")) * SECTOR
    blocks, block_size = map(int, node.output("stat -f -c '%b %S' /data").split())
    assert blocks * block_size >= 0.9 * size


def test_clock_agrees_with_this_computer(node: Guest) -> None:
    before = time.time()
    guest = int(node.output("date +%s"))
    assert before - CLOCK_SECONDS <= guest <= time.time() + CLOCK_SECONDS


def test_machine_id_was_made_on_the_device(node: Guest, lower: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", node.output("cat /etc/machine-id"))
    published = node.output(f"cat {lower}/etc/machine-id 2>/dev/null || true")
    assert published in ("", "uninitialized")


@pytest.mark.usefixtures("with_ssh")
def test_the_one_host_key_is_ed25519(node: Guest) -> None:
    assert node.output("ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
    assert "(ED25519)" in node.output("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    assert node.output("stat -c '%a %U' /etc/ssh/ssh_host_ed25519_key") == "600 root"


def test_published_image_has_no_host_key(node: Guest, lower: str) -> None:
    assert node.output(f"find {lower}/etc/ssh -name 'ssh_host_*' 2>/dev/null || true") == ""


def test_no_account_has_a_password(node: Guest) -> None:
    fields = [line.split(":") for line in node.output("cut -d: -f1,2 /etc/shadow").splitlines()]
    assert [name for name, secret in fields if secret not in LOCKED] == []
    assert "root" in [name for name, _ in fields]


def test_what_no_rule_lets_in_is_dropped(image: Published, node: Guest) -> None:
    if not image.firewall:
        assert "cumulet_firewall" not in node.output("nft list tables 2>/dev/null || true")
        return
    rules = node.output("nft list table inet cumulet_firewall")
    assert re.search(r"hook input priority filter; policy drop;", rules)
    assert re.search(r"hook forward priority filter; policy drop;", rules)
    assert ("tcp dport 22 accept" in rules) == image.ssh


def test_hostname_comes_from_the_node_document(node: Guest) -> None:
    assert node.output("cat /proc/sys/kernel/hostname") == HOSTNAME


def test_network_has_a_default_route(node: Guest) -> None:
    node.until("awk '$2 == \"00000000\" {found = 1} END {exit !found}' /proc/net/route", RUNNING_SECONDS)


@pytest.mark.usefixtures("with_ssh")
def test_ssh_lets_in_the_key_of_the_node_document(
    vm: VirtualMachine, node: Guest, patience: Patience, ssh_key: ssh.Key, tmp_path: Path
) -> None:
    vm.wait_ssh(patience(300))
    known_hosts = write_known_hosts(tmp_path, vm, node)
    argv = ssh.make_argv(ssh_key, vm.ssh_port, known_hosts, "cat /proc/sys/kernel/random/boot_id")
    answer = proc.run(argv, timeout=patience(300).left)
    assert answer.out.strip() == node.output("cat /proc/sys/kernel/random/boot_id")


@pytest.mark.usefixtures("with_ssh")
def test_ssh_offers_no_password(
    vm: VirtualMachine, node: Guest, patience: Patience, ssh_key: ssh.Key, tmp_path: Path
) -> None:
    vm.wait_ssh(patience(300))
    known_hosts = write_known_hosts(tmp_path, vm, node)
    argv = ssh.make_argv(ssh_key, vm.ssh_port, known_hosts, "true", password=True)
    answer = proc.run(argv, timeout=patience(300).left, check=False)
    assert answer.code == 255
    assert "Permission denied (publickey)" in answer.err


def write_known_hosts(folder: Path, vm: VirtualMachine, node: Guest) -> Path:
    """A known-hosts file with the key that the guest told on its console."""
    path = folder / "known_hosts"
    path.write_text(ssh.make_known_hosts(vm.ssh_port, node.output("cat /etc/ssh/ssh_host_ed25519_key.pub")))
    return path
