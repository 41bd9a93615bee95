"""The firewall's rulesets by role, and the script that picks one. What they let through is in tests/fakebin."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from cumulet.site.packages import PORT
from cumulet_builder.firewall import FOLDER, PACKAGES_PORT, ROLES, make_firewall_tree, make_ports, make_ruleset
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Board, Kernel, Recipe
from cumulet_builder.render import render
from cumulet_builder.rootfs import make_settings_tree

ROOT = Path(__file__).parents[2]


def make_recipe(distribution: str = "", **values: object) -> Recipe:
    board = Board(board="qemu-arm64", title="t", architecture="arm64", kernel=Kernel(package="linux-image-arm64"))
    more = {"kubernetes": {"distribution": distribution}} if distribution else {}
    return Recipe.model_validate({"version": 1, "image": "try", "board": board, **more, **values})


def ports(recipe: Recipe, role: str) -> set[str]:
    return {f"{port.range}/{port.protocol}" for port in make_ports(recipe, role)}


def test_without_kubernetes_only_ssh_is_open() -> None:
    assert {role: ports(make_recipe(), role) for role in ("none",)} == {"none": {"22/tcp"}}
    assert ports(make_recipe(ssh={"enabled": False}), "none") == set()


@pytest.mark.parametrize(
    ("role", "wanted"),
    [
        ("none", {"22/tcp", "7480/tcp"}),
        ("single", {"22/tcp", "7480/tcp", "6443/tcp", "10250/tcp"}),
        ("control", {"22/tcp", "7480/tcp", "2379-2380/tcp", "10250/tcp"}),
        ("master", {"22/tcp", "7480/tcp", "6443/tcp", "2379-2380/tcp", "10250/tcp"}),
        ("worker", {"22/tcp", "7480/tcp", "10250/tcp"}),
    ],
)
def test_each_role_opens_what_its_kubernetes_needs(role: str, wanted: set[str]) -> None:
    assert ports(make_recipe("kubeadm"), role) == wanted
    assert ports(make_recipe("k3s"), role) >= wanted


def test_k3s_has_its_own_ports_on_every_node_of_a_cluster() -> None:
    recipe = make_recipe("k3s")
    assert all({"8472/udp", "5001/tcp"} <= ports(recipe, role) for role in ROLES if role != "none")
    assert "6443/tcp" in ports(recipe, "control")


def test_the_recipe_opens_more() -> None:
    recipe = make_recipe(firewall={"open": ["8080/tcp", "30000-30100/udp"]})
    assert ports(recipe, "none") == {"22/tcp", "8080/tcp", "30000-30100/udp"}
    with pytest.raises(ValidationError, match="write it like 8080/tcp"):
        make_recipe(firewall={"open": ["http"]})


def test_a_recipe_may_do_without() -> None:
    assert make_firewall_tree(make_recipe(firewall={"enabled": False})).nodes == {}


def test_every_bundled_image_is_closed() -> None:
    for path in (ROOT / "recipes/images").glob("*.yaml"):
        recipe = load_recipe(path)
        tree = make_settings_tree(recipe, "build")
        for role in ROLES:
            text = tree.read(f"{FOLDER}/{role}.nft").decode()
            assert text.count("policy drop") == 2, path
        assert "/etc/systemd/system/sysinit.target.wants/cumulet-firewall.service" in tree.nodes
        assert "nftables" in recipe.base_packages
        assert {"nf_tables", "nf_conntrack", "nft_ct"} <= set(recipe.modules)


def test_pods_are_forwarded_only_where_there_are_any() -> None:
    assert "10.42.0.0/16" not in make_ruleset(make_recipe(), "none")
    assert "ip saddr 10.42.0.0/16 accept" in make_ruleset(make_recipe("kubeadm"), "none")


def test_the_port_for_packages_is_the_sites() -> None:
    assert PACKAGES_PORT.range == str(PORT)


@pytest.mark.parametrize(
    ("env", "site", "role"),
    [
        (None, None, "none"),
        ("CUMULET_ROLE=single\n", None, "single"),
        ("CUMULET_ROLE=none\n", '{\n "version": 1,\n "role": "master",\n "node": "p2"\n}\n', "master"),
        ("CUMULET_ROLE=single\n", '{\n "role": "worker"\n}\n', "worker"),
        ("CUMULET_ROLE=emperor\n", None, "none"),
        ("CUMULET_ROLE=worker\n", "", "worker"),
    ],
)
def test_the_script_picks_the_rules_of_the_role(tmp_path: Path, env: str | None, site: str | None, role: str) -> None:
    for name in ROLES:
        (tmp_path / f"{name}.nft").write_text(name)
    (tmp_path / "nft").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "nft").chmod(0o755)
    script = render("firewall/load.sh.j2", folder=tmp_path)
    for path, content, name in (
        ("/run/cumulet/node.env", env, "node.env"),
        ("/etc/cumulet/site.json", site, "site.json"),
    ):
        script = script.replace(path, str(tmp_path / name))
        if content is not None:
            (tmp_path / name).write_text(content)
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"-f {tmp_path}/{role}.nft\n"
