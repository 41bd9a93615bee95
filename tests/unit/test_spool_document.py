"""spool.yaml: what it says, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet.spool.__main__ import make_parser, make_settings
from cumulet.spool.document import load_spool
from cumulet.spool.node import NodeSettings


def write(folder: Path, text: str) -> Path:
    path = folder / "spool.yaml"
    path.write_text(f"version: 1\n{text}")
    return path


def test_a_document_is_what_the_words_of_a_command_line_are(tmp_path: Path) -> None:
    text = (
        "name: pier-7\nup: [https://mast-12.example:8444]\nauthority: hub.crt\ncertificate: agent.crt\nkey: agent.key\n"
        "mark: 7103\nbudget: 64\ntrusted: [mast-12]\nreports: /var/lib/cumulet/monitor/reports\n"
    )
    path = write(tmp_path, text)
    expected = NodeSettings(
        name="pier-7",
        folder=Path("/var/lib/cumulet/results"),
        budget=64 << 20,
        up=("https://mast-12.example:8444",),
        authority=tmp_path / "hub.crt",
        certificate=tmp_path / "agent.crt",
        key=tmp_path / "agent.key",
        trusted=frozenset({"mast-12"}),
        mark=7103,
    )
    reports = Path("/var/lib/cumulet/monitor/reports")
    assert load_spool(path) == (expected, reports)
    assert make_settings(make_parser().parse_args(["run", "--file", str(path)])) == (expected, reports)
    plain = NodeSettings("pier-7", Path("/var/lib/cumulet/results"))
    assert load_spool(write(tmp_path, "name: pier-7\n")) == (plain, None)
    assert make_settings(make_parser().parse_args(["run", "--name", "pier-7"])) == (plain, None)


def test_a_station_has_other_files_for_its_parent_and_an_edge_a_folder_that_is_collected(tmp_path: Path) -> None:
    text = "up_authority: top.crt\nup_certificate: agent.crt\nup_key: device.key\nreaders: [admin]\n"
    found, _ = load_spool(write(tmp_path, f"name: pier-7\nport: 0\ncollect: /var/lib/cumulet/out\nnode: p1\n{text}"))
    assert (found.port, found.collect, found.node) == (0, Path("/var/lib/cumulet/out"), "p1")
    assert (found.up_authority, found.up_key) == (tmp_path / "top.crt", tmp_path / "device.key")
    assert found.readers == frozenset({"admin"})
    words = ["run", "--name", "pier-7", "--port", "0", "--collect", "/var/lib/cumulet/out", "--node", "p1"]
    words += ["--up-authority", f"{tmp_path}/top.crt", "--up-certificate", f"{tmp_path}/agent.crt"]
    words += ["--up-key", f"{tmp_path}/device.key", "--reader", "admin"]
    assert make_settings(make_parser().parse_args(words)) == (found, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: pier\nup_key: k\n", "up_certificate and up_key: one without the other"),
        ("name: Pier\n", "name: "),
        ("name: pier\nkey: k\n", "key: without authority, certificate"),
        ("name: pier\nup: [mast-12]\n", "up[0]"),
        ("name: pier\nbudged: 1\n", "unknown key 'budged'"),
        ("up: []\n", "missing key 'name'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_spool(write(tmp_path, text))
    assert message in caught.value.report()
    assert "spool.yaml:" in caught.value.report()
