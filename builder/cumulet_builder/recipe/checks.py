"""Impossible combinations: what is wrong with a recipe although each of its values is fine.

The checks read the merged document, not the model, so that they also speak when
another value is of the wrong type.
"""

from __future__ import annotations

import ipaddress

from cumulet.core.documents import Key, Value
from cumulet.core.errors import Problem
from cumulet_builder.recipe.model import Disk, Kubernetes, parse_size
from cumulet_builder.recipe.radio_checks import find_radio_conflicts

CLUSTER_ROLES = ("single", "control", "master", "worker")
SOURCES = {"k3s": ("release", "file"), "kubeadm": ("modules",)}


def find_conflicts(document: Value) -> list[Problem]:
    """Every impossible combination in a merged recipe."""
    checks = (
        _kubernetes_source,
        _kubernetes_files,
        _kubernetes_feature,
        _networks,
        _role,
        _files,
        _units,
        _budget,
        _tests,
        _tests_need_qemu,
        _secure_boot,
        find_radio_conflicts,
    )
    return [problem for each in checks for problem in each(document)]


def _text(document: Value, *key: str) -> str | None:
    value = document.at(key)
    return value.content if value is not None and isinstance(value.content, str) else None


def _at(document: Value, *key: str | int) -> Value:
    """The value at a key, or the nearest one above it: something always has a place."""
    path: Key = key
    while path and document.at(path) is None:
        path = path[:-1]
    return document.at(path) or document


def _has_kubernetes(document: Value) -> bool:
    kubernetes = document.at(("kubernetes",))
    return kubernetes is not None and kubernetes.content is not None


def _kubernetes_source(document: Value) -> list[Problem]:
    distribution, source = _text(document, "kubernetes", "distribution"), _text(document, "kubernetes", "source")
    allowed = SOURCES.get(distribution or "")
    known = {word for words in SOURCES.values() for word in words}
    if allowed is None or source not in known or source in allowed:
        return []
    message = f"kubernetes.source: {distribution} does not come from {source!r}"
    return [_at(document, "kubernetes", "source").place.problem(message, f"source: {' or '.join(allowed)}")]


def _kubernetes_files(document: Value) -> list[Problem]:
    source, files = _text(document, "kubernetes", "source"), document.at(("kubernetes", "files"))
    # The yocto engine compiles the program.
    compiled = _text(document, "engine") == "yocto"
    if source == "file" and not compiled and (files is None or "binary" not in files.mapping):
        place = _at(document, "kubernetes", "source").place
        return [place.problem("kubernetes: source 'file' names no binary", "files: {binary: PATH, images: PATH}")]
    if source != "file" and files is not None and files.mapping:
        return [files.key.problem("kubernetes.files: is only for source 'file'", "source: file, or leave files out")]
    return []


def _kubernetes_feature(document: Value) -> list[Problem]:
    features = document.at(("features",))
    names = features.plain() if features is not None else []
    if not _has_kubernetes(document) or "containers" in names:
        return []
    return [
        _at(document, "kubernetes").key.problem(
            "kubernetes: needs the feature 'containers'", "add containers to features"
        )
    ]


def _networks(document: Value) -> list[Problem]:
    if not _has_kubernetes(document):
        return []
    found = []
    for name in ("pod_cidr", "service_cidr"):
        text = _text(document, "kubernetes", name) or str(Kubernetes.model_fields[name].default)
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            return []
    pods, services = found
    if pods.version != services.version or not pods.overlaps(services):
        return []
    place = _at(document, "kubernetes", "service_cidr").place
    return [place.problem(f"kubernetes: pods {pods} and services {services} overlap", "give them different networks")]


def _role(document: Value) -> list[Problem]:
    role = _text(document, "node", "role")
    if role not in CLUSTER_ROLES or _has_kubernetes(document):
        return []
    place = _at(document, "node", "role").place
    return [place.problem(f"node.role: {role!r} needs kubernetes in the image", "add kubernetes, or role: none")]


def _files(document: Value) -> list[Problem]:
    files = document.at(("files",))
    problems = []
    for index, file in enumerate(files.items if files is not None else []):
        given = [name for name in ("content", "source") if file.mapping.get(name) is not None]
        if len(given) == 2:
            problems.append(file.place.problem(f"files[{index}]: has both content and source", "leave one of them out"))
        elif not given and isinstance(file.content, dict):
            problems.append(
                file.place.problem(f"files[{index}]: has neither content nor source", "add content: or source:")
            )
    return problems


def _units(document: Value) -> list[Problem]:
    mask, enable = _at(document, "mask"), _at(document, "enable")
    started = {str(unit.content) for unit in enable.items}
    return [
        unit.place.problem(f"mask: {unit.content!r} is enabled too", "leave it out of mask or of enable")
        for unit in mask.items
        if unit.content in started
    ]


def _budget(document: Value) -> list[Problem]:
    budget = _text(document, "size_budget", "root")
    partition = _text(document, "disk", "root") or str(Disk.model_fields["root"].default)
    try:
        if budget is None or parse_size(budget) <= parse_size(partition):
            return []
    except ValueError:
        return []
    message = f"size_budget.root: {budget} is more than the root partition holds, {partition}"
    return [_at(document, "size_budget", "root").place.problem(message, "raise disk.root, or lower the budget")]


def _secure_boot(document: Value) -> list[Problem]:
    signer = document.at(("secure_boot",))
    if signer is None or not isinstance(signer.content, dict):
        return []
    method = _text(document, "board", "boot", "method") or "uefi"
    if method != "uefi":
        board = _text(document, "board", "board")
        message = f"secure_boot: the boot loader of {board} ({method}) checks no signature of yours"
        return [signer.key.problem(message, "leave secure_boot out; disk: {verity: true} still proves the root")]
    verity = document.at(("disk", "verity"))
    if verity is None or verity.content is not True:
        hint = "disk: {verity: true}"
        return [signer.key.problem("secure_boot: proves the root only together with disk.verity", hint)]
    return []


def _tests(document: Value) -> list[Problem]:
    distribution = _text(document, "kubernetes", "distribution")
    problems = []
    for test in _at(document, "test").items:
        if test.content in ("kubernetes", "k3s") and not _has_kubernetes(document):
            problems.append(
                test.place.problem(f"test: {test.content!r} needs kubernetes in the image", "add kubernetes")
            )
        elif test.content == "k3s" and distribution == "kubeadm":
            hint = "test: kubernetes, or distribution: k3s"
            problems.append(test.place.problem(f"test: 'k3s' does not fit the distribution {distribution!r}", hint))
    return problems


def _tests_need_qemu(document: Value) -> list[Problem]:
    tests, board = document.at(("test",)), document.at(("board",))
    if tests is None or not tests.items or board is None or not isinstance(board.content, dict):
        return []
    if board.mapping.get("qemu") is not None:
        return []
    name = _text(document, "board", "board")
    return [tests.key.problem(f"test: the board {name!r} has no QEMU settings", "test: [], or add qemu: to the board")]
