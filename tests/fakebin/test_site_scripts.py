"""The programs that a site sends to its devices, run by a real shell with fake programs around them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cumulet.site.facts import parse_host, parse_members
from cumulet.site.parts import read_script

Fake = Callable[[str, str], Path]


def run_script(name: str, *words: str, changes: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    text = read_script(name)
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    argv = ["sh", "-s", "--", *words]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=20, check=False)


# The lock and the journal


class Keeper:
    """The program that holds the lock, with a folder of the test's and less patience."""

    def __init__(self, folder: Path, owner: str, patience: float = 20) -> None:
        text = read_script("keeper.sh").replace("/var/lib/cumulet/site", str(folder)).replace("-t 60", f"-t {patience}")
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(["bash", "-c", text, "keeper", owner], **pipes)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        self.process.communicate(timeout=10)
        return self.process.returncode


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Keeper]]:
    made: list[Keeper] = []

    def make(owner: str, **changes: float) -> Keeper:
        made.append(Keeper(tmp_path / "site", owner, **changes))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.communicate()


def test_a_second_installer_is_told_who_has_the_lock(keep: Callable[..., Keeper]) -> None:
    first = keep("ann@laptop, process 7")
    assert first.hear() == "locked"
    second = keep("bob@desk, process 8")
    assert second.hear().startswith("held ann@laptop, process 7 since 20")
    assert second.end() == 9
    assert first.end() == 0
    third = keep("bob@desk, process 9")
    assert (third.hear(), third.end()) == ("locked", 0)


def test_the_journal_keeps_every_entry_and_no_heartbeat(keep: Callable[..., Keeper], tmp_path: Path) -> None:
    keeper = keep("ann")
    assert keeper.hear() == "locked"
    for line in ('{"step":"a\\\\b $HOME"}', "", '{"step":"b"}'):
        keeper.say(line)
    assert keeper.end() == 0
    keeper = keep("bob")
    keeper.say('{"step":"c"}')
    assert keeper.end() == 0
    lines = (tmp_path / "site/journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == ["a\\b $HOME", "b", "c"]


def test_silence_lets_the_lock_go(keep: Callable[..., Keeper], tmp_path: Path) -> None:
    silent = keep("ann", patience=0.2)
    assert silent.hear() == "locked"
    assert silent.process.wait(timeout=10) == 0
    assert sorted(each.name for each in (tmp_path / "site").iterdir()) == ["lock"]
    assert keep("bob").hear() == "locked"


def test_heartbeats_keep_the_lock(keep: Callable[..., Keeper]) -> None:
    keeper = keep("ann", patience=0.4)
    assert keeper.hear() == "locked"
    for _ in range(6):
        time.sleep(0.1)
        keeper.say("")
    assert keeper.process.poll() is None
    assert keep("bob").hear().startswith("held ann")


def test_a_keeper_that_is_killed_lets_the_lock_go_and_its_name_is_forgotten(keep: Callable[..., Keeper]) -> None:
    first = keep("ann")
    assert first.hear() == "locked"
    first.process.kill()
    first.process.wait()
    second = keep("bob")
    assert second.hear() == "locked"
    assert keep("cid").hear().startswith("held bob")


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path: Path, keep: Callable[..., Keeper]) -> None:
    (tmp_path / "site").write_text("a file where the folder belongs")
    assert keep("ann").end() == 4


# Facts


@pytest.fixture
def device(tmp_path: Path, fake: Fake) -> dict[str, str]:
    """A device's programs and folders: what is to be changed in the script, old -> new."""
    # A line for each, in the order in which they are named.
    says = 'case "$unit" in kubelet|k3s) echo active ;; *) echo inactive ;; esac'
    fake("systemctl", f"shift; for unit; do {says}; done; exit 3")
    fake("ip", "echo '2: lo    inet 10.0.0.12/24 brd 10.0.0.255 scope global lo'")
    programs = tmp_path / "usr/bin"
    programs.mkdir(parents=True)
    for name, text in (
        ("kubeadm", "v1.36.3"),
        ("k3s", "k3s version v1.36.2+k3s1 (abc)\ngo version go1.26"),
        ("containerd", "containerd github.com/containerd/containerd v2.1.4 abc"),
    ):
        (programs / name).write_text(f"#!/bin/sh\necho '{text}'\n")
        (programs / name).chmod(0o755)
        fake(name, f"echo '{text}'")
    changes = {"/usr/bin/": f"{programs}/", "/run/cumulet": f"{tmp_path}/run"}
    changes |= {"/var/lib/rancher": f"{tmp_path}/rancher", "/etc/cumulet": f"{tmp_path}/etc"}
    return changes | {"/var/lib/etcd": f"{tmp_path}/etcd", "/var/lib/cumulet": f"{tmp_path}/cumulet"}


def test_facts_about_a_bare_device(device: dict[str, str]) -> None:
    done = run_script("facts.sh", "/nowhere", changes=device)
    assert (done.returncode, done.stderr) == (0, "")
    facts = parse_host("p2", done.stdout, time.time())
    assert facts is not None
    assert facts.programs == {"kubeadm": "v1.36.3", "k3s": "v1.36.2+k3s1", "containerd": "v2.1.4"}
    assert facts.active == {"kubelet", "k3s"}
    assert list(facts.links) == ["10.0.0.12"]
    assert (facts.made, facts.etcd_data, facts.installing, facts.files, facts.role) == (False, False, "", {}, "")
    assert abs(facts.clock) < 20
    assert (facts.kernel, facts.cpus) == (platform.release(), len(os.sched_getaffinity(0)) or 1)
    assert 1 << 24 < facts.memory < 1 << 44
    assert facts.disk > 0


def test_a_version_is_asked_again_only_when_the_program_has_changed(
    device: dict[str, str], tmp_path: Path, fake: Fake
) -> None:
    def version() -> str:
        facts = parse_host("p2", run_script("facts.sh", changes=device).stdout, 0.0)
        assert facts is not None
        return facts.programs["kubeadm"]

    assert version() == "v1.36.3"
    fake("kubeadm", "echo v1.36.4")
    assert version() == "v1.36.3"
    # An upgrade writes the file anew.
    (tmp_path / "usr/bin/kubeadm").write_text("#!/bin/sh\n# other\necho v1.36.4\n")
    assert version() == "v1.36.4"
    (tmp_path / "run/versions/kubeadm").write_text("half")
    assert version() == "v1.36.4"


@pytest.mark.parametrize(
    ("made", "data"),
    [
        ("etc/kubernetes/made", "etcd/member-data/member"),
        ("rancher/k3s/agent/kubelet.kubeconfig", "rancher/k3s/server/db/etcd/member"),
    ],
    ids=["kubeadm", "k3s"],
)
def test_facts_about_a_device_that_is_in(device: dict[str, str], tmp_path: Path, made: str, data: str) -> None:
    for path, text in ((made, "x"), ("run/node.env", "CUMULET_ROLE=master\n"), ("cumulet/site/installing", "a step")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / data).mkdir(parents=True)
    facts = parse_host("p2", run_script("facts.sh", str(tmp_path / made), changes=device).stdout, 0.0)
    assert facts is not None
    assert (facts.made, facts.etcd_data, facts.installing, facts.role) == (True, True, "a step", "master")
    assert facts.files == {str(tmp_path / made): "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}


# Members of etcd

LEARNER = "aa, started, p3, https://10.0.0.13:2380, https://10.0.0.13:2379, true"
VOTERS = (
    "8e9e05c52164694d, started, p1, https://10.0.0.11:2380, https://10.0.0.11:2379, false",
    "bb, started, p2, https://10.0.0.12:2380, https://10.0.0.12:2379, false",
)
UNSTARTED = "cc, unstarted, , https://10.0.0.13:2380, , true"


@pytest.fixture
def etcd(tmp_path: Path, fake: Fake) -> Callable[..., Path]:
    """A fake etcdctl that lists these members and notes what else it is asked; returns the notes."""

    def make(*members: str) -> Path:
        (tmp_path / "members").write_text("".join(f"{each}\n" for each in members))
        calls = tmp_path / "calls"
        calls.write_text("")
        fake(
            "etcdctl",
            f'if [ "$1 $2" = "member list" ]; then cat {tmp_path}/members; else echo "$*" >>{calls}; fi\n'
            f'[ "$ETCDCTL_ENDPOINTS" = https://127.0.0.1:2379 ] && [ ! -e {tmp_path}/broken ]',
        )
        return calls

    return make


@pytest.mark.parametrize(
    ("words", "members", "calls"),
    [
        (["add", "p3", "https://10.0.0.13:2380"], VOTERS, "member add p3 --learner --peer-urls=https://10.0.0.13:2380"),
        (["add", "p3", "https://10.0.0.13:2380"], (*VOTERS, LEARNER), ""),
        (["add", "p3", "https://10.0.0.13:2380"], (*VOTERS, UNSTARTED), ""),
        (["promote", "https://10.0.0.13:2380"], (*VOTERS, LEARNER), "member promote aa"),
        (["promote", "https://10.0.0.12:2380"], VOTERS, ""),
        (["remove", "https://10.0.0.13:2380"], (*VOTERS, LEARNER), "member remove aa"),
        (["remove", "https://10.0.0.13:2380"], (*VOTERS, UNSTARTED), "member remove cc"),
        (["remove", "https://10.0.0.13:2380"], VOTERS, ""),
        (["whole", "p1", "p2"], VOTERS, ""),
        (["whole", "p2", "p1"], VOTERS, ""),
        (["healthy"], VOTERS, "endpoint health"),
        (["save", "/snapshot"], VOTERS, "snapshot save /snapshot"),
    ],
)
def test_members_are_changed_once(
    etcd: Callable[..., Path], words: list[str], members: tuple[str, ...], calls: str
) -> None:
    notes = etcd(*members)
    assert (run_script("etcd.sh", *words).returncode, notes.read_text().strip()) == (0, calls)


@pytest.mark.parametrize(
    ("words", "members", "error"),
    [
        (["promote", "https://10.0.0.13:2380"], VOTERS, "no member at https://10.0.0.13:2380"),
        (["whole", "p1", "p2"], (*VOTERS, LEARNER), "members: 8e9e05c52164694d,started,p1"),
        (["whole", "p1", "p2", "p3"], (*VOTERS, LEARNER), "members: 8e9e05c52164694d,started,p1"),
        (["whole", "p1", "p2"], (*VOTERS, UNSTARTED), "members: 8e9e05c52164694d,started,p1"),
        (["whole", "p1", "p2"], VOTERS[:1], "members: 8e9e05c52164694d,started,p1"),
        (["bless"], VOTERS, "etcd.sh: bless?"),
    ],
)
def test_members_that_are_not_as_they_should_be_are_an_error(
    etcd: Callable[..., Path], words: list[str], members: tuple[str, ...], error: str
) -> None:
    notes = etcd(*members)
    done = run_script("etcd.sh", *words)
    assert done.returncode != 0
    assert done.stderr.startswith(error)
    assert notes.read_text() == ""


@pytest.mark.parametrize(
    "words",
    [
        ["healthy"],
        ["add", "p3", "https://10.0.0.13:2380"],
        ["promote", "https://10.0.0.13:2380"],
        ["remove", "https://10.0.0.13:2380"],
        ["remove", "https://10.0.0.19:2380"],
        ["whole", "p1", "p2"],
        ["save", "/snapshot"],
    ],
)
def test_an_etcd_that_does_not_answer_is_an_error(etcd: Callable[..., Path], tmp_path: Path, words: list[str]) -> None:
    etcd()
    (tmp_path / "broken").touch()
    assert run_script("etcd.sh", *words).returncode != 0


def test_members_are_listed_for_a_machine(fake: Fake) -> None:
    fake("etcdctl", """[ "$*" = "member list -w json" ] && echo '{"members":[{"ID":171,"name":"p1"}]}'""")
    (member,) = parse_members(run_script("etcd.sh", "list").stdout)
    assert (member.id, member.name, member.address, member.learner) == ("ab", "p1", "", False)
