"""Pins, inventories, licences, and what both distributions pack alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cumulet.core.errors import UsageError
from cumulet.kubernetes.model import Setup, Text
from cumulet_builder.kubernetes.inventory import Component, load_components, write_inventory
from cumulet_builder.kubernetes.licences import classify, escape, find_licence
from cumulet_builder.kubernetes.pins import K3sPin, KubeadmPin, find_pin, load_flags, load_pin, load_pin_file
from cumulet_builder.kubernetes.surroundings import get_settings, make_cluster, make_setup_tree, read_wanted_by
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Kubernetes

RECIPES = Path(__file__).parents[2] / "recipes"
DOCUMENT = {
    "version": 1,
    "distribution": "k3s",
    "release": "v1.2.3+k3s1",
    "base": "http://127.0.0.1:1",
    "flags": "flags.yaml",
    "assets": {"arm64": {"binary": "k3s-arm64", "images": "i.tar.zst", "sums": "s.txt"}},
}


def write_pin(folder: Path, name: str, **changes: object) -> Path:
    path = folder / "kubernetes/k3s" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**DOCUMENT, "release": name, **changes}, sort_keys=False))
    return path


# Pins


def test_bundled_pins_load() -> None:
    assert isinstance(load_pin(RECIPES, "kubeadm"), KubeadmPin)
    pin = load_pin(RECIPES, "k3s", "v1.36.2+k3s1")
    assert isinstance(pin, K3sPin)
    assert (RECIPES / "kubernetes/k3s" / pin.flags).is_file()
    assert set(pin.assets) == {"arm64", "amd64"}


def test_newest_pin_is_told_by_numbers_and_not_by_letters(tmp_path: Path) -> None:
    for name in ("v1.9.9+k3s1", "v1.36.2+k3s1", "v1.36.10+k3s1", "v1.36.10+k3s2"):
        write_pin(tmp_path, name)
    assert find_pin(tmp_path, "k3s", None).stem == "v1.36.10+k3s2"
    assert find_pin(tmp_path, "k3s", "1.9.9+k3s1").stem == "v1.9.9+k3s1"


def test_version_without_a_pin_names_those_there_are(tmp_path: Path) -> None:
    write_pin(tmp_path, "v1.36.2+k3s1")
    with pytest.raises(UsageError, match=r"kubernetes: k3s v1\.2: no such pin") as caught:
        find_pin(tmp_path, "k3s", "v1.2")
    assert caught.value.hint == "pinned are: v1.36.2+k3s1; leave version out for the newest"
    with pytest.raises(UsageError) as caught:
        find_pin(tmp_path, "kubeadm", None)
    assert "pinned are: none" in caught.value.hint


def test_every_problem_of_a_pin_comes_with_its_place_and_the_nearest_key(tmp_path: Path) -> None:
    assets = {"arm64": {"binary": "k", "images": "i", "sums": "s", "binary_sha265": "x", "images_sha256": "abc"}}
    path = write_pin(tmp_path, "v1.2.3+k3s1", assets=assets)
    with pytest.raises(UsageError, match="2 problems") as caught:
        load_pin_file(path, "k3s")
    places = [(each.line, each.message.split(":")[0], each.hint) for each in caught.value.problems]
    assert places == [
        (11, "unknown key 'binary_sha265' in assets.arm64", "did you mean 'binary_sha256'?"),
        (12, "assets.arm64.images_sha256", ""),
    ]


def test_a_pin_that_is_no_document_is_an_error_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "v1.yaml"
    with pytest.raises(UsageError, match="no such file"):
        load_pin_file(path, "k3s")
    path.write_text("version: [")
    with pytest.raises(UsageError):
        load_pin_file(path, "k3s")


def test_flags_for_both_are_flags_of_each(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text("version: 1\nboth: [config]\nserver: [disable]\n")
    assert load_flags(path) == {"server": {"config", "disable"}, "agent": {"config"}}
    path.write_text("version: 1\nbothh: [config]\n")
    with pytest.raises(UsageError) as caught:
        load_flags(path)
    assert "did you mean 'both'?" in [each.hint for each in caught.value.problems]


# Inventory


def test_inventory_is_sorted_and_says_each_once(tmp_path: Path) -> None:
    kube = Component("kube", "v1", "program", "Apache-2.0", "a" * 64)
    modules = [Component("b", "v2", "go-module", "MIT"), Component("a", "v1", "go-module", "MIT")]
    write_inventory([kube, *modules, modules[0]], tmp_path / "one.json")
    write_inventory([*reversed(modules), kube], tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert load_components(tmp_path / "one.json") == [*reversed(modules), kube]
    assert json.loads((tmp_path / "one.json").read_text())[0] == {
        "name": "a", "version": "v1", "kind": "go-module", "licence": "MIT", "sha256": "",
    }  # fmt: skip


# Licences


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("                Apache License\n          Version 2.0, January 2004", "Apache-2.0"),
        ("Mozilla Public License, version 2.0\n\n1. Definitions", "MPL-2.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007", "LGPL-3.0-only"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 2, June 1991", "GPL-2.0-only"),
        ("GNU GENERAL PUBLIC LICENSE Version 3 ... the GNU Affero General Public License", "GPL-3.0-only"),
        ("Permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"),
        ("Permission is hereby granted, free of charge, to any\nperson obtaining a copy", "MIT"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("Redistribution and use in source and\nbinary forms, with or without", "BSD-2-Clause"),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("All rights reserved.", "NOASSERTION"),
    ],
)
def test_licence_is_told_by_its_words(words: str, name: str) -> None:
    assert classify(words) == name


def test_licence_of_a_module_is_looked_for_where_the_module_cache_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "github.com/!burnt!sushi/toml@v1.0.0-!r!c1"
    folder.mkdir(parents=True)
    (folder / "COPYING").write_text("Permission is hereby granted, free of charge, to any person obtaining a copy")
    assert find_licence(tmp_path, "github.com/BurntSushi/toml", "v1.0.0-RC1") == "MIT"
    assert find_licence(tmp_path, "github.com/BurntSushi/toml", "v2.0.0") == "NOASSERTION"
    assert escape("k8s.io/api") == "k8s.io/api"


# What both pack


def test_setup_becomes_a_tree_with_links_that_start_its_units() -> None:
    unit = "[Install]\nWantedBy=multi-user.target timers.target\n"
    setup = Setup(
        {"/usr/lib/systemd/system/a.service": Text(unit), "/usr/lib/a": Text("#!/bin/sh\n", 0o755)},
        {"/usr/bin/b": "../lib/a"},
        ("a.service",),
    )
    tree = make_setup_tree(setup)
    assert {path: (node.kind, node.mode, node.target) for path, node in tree.walk()} == {
        "/etc/systemd/system/multi-user.target.wants/a.service": ("link", 0o777, "/usr/lib/systemd/system/a.service"),
        "/etc/systemd/system/timers.target.wants/a.service": ("link", 0o777, "/usr/lib/systemd/system/a.service"),
        "/usr/bin/b": ("link", 0o777, "../lib/a"),
        "/usr/lib/a": ("file", 0o755, ""),
        "/usr/lib/systemd/system/a.service": ("file", 0o644, ""),
    }
    assert read_wanted_by("[Service]\n") == []


def test_cluster_of_an_image_has_the_networks_and_addons_of_its_recipe() -> None:
    settings = Kubernetes(distribution="k3s", pod_cidr="10.1.0.0/16", service_cidr="10.2.0.0/16", addons=())
    cluster = make_cluster(settings)
    assert (cluster.pod_cidr, cluster.service_cidr, cluster.addons) == ("10.1.0.0/16", "10.2.0.0/16", ())
    with pytest.raises(ValueError, match="base-arm64 has no Kubernetes"):
        get_settings(load_recipe(RECIPES / "images/base-arm64.yaml"))
