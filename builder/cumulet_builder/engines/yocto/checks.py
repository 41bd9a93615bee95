"""What the yocto engine cannot build, said when a build is planned, at the place where the recipe asks for it.

Reads the fragments of a recipe as they were written: one that names Debian packages or wheels says under
`yocto:` what stands for them, be it nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cumulet.core.documents import Value
from cumulet.core.errors import Problem
from cumulet_builder.recipe.load import Resolved

DEBIAN_ONLY = ("packages", "base_packages", "wheels", "pinned_wheels")
# What bitbake's disk and root are turned into.
FORMATS = ("disk", "blockmap", "directory", "tar", "oci")
# What meta-virtualization at the locked commit has.
K3S = "v1.36.1+k3s1"
KUBEADM = "kubeadm's programs are built from Go modules by the debian engine alone"


@dataclass(frozen=True)
class Known:
    """What there is to build with: boards that have a machine, and the fragments of recipes/kas."""

    boards: frozenset[str]
    layers: frozenset[str]


def find_problems(resolved: Resolved, known: Known) -> list[Problem]:
    """Everything in a recipe that the engine cannot build. Pure."""
    checks = (_board, _kubernetes, _kubernetes_version, _layers, _formats, _verity, _secure_boot)
    found = [problem for check in checks for problem in check(resolved, known)]
    return [*found, *_unsupported(resolved), *_debian(resolved)]


def _at(resolved: Resolved, *key: str | int) -> Value:
    path = key
    while path and resolved.document.at(path) is None:
        path = path[:-1]
    return resolved.document.at(path) or resolved.document


def _board(resolved: Resolved, known: Known) -> list[Problem]:
    board = resolved.recipe.board.board
    if board in known.boards:
        return []
    message = f"board: the yocto engine has no machine for {board!r}"
    return [_at(resolved, "board", "board").place.problem(message, f"it has: {', '.join(sorted(known.boards))}")]


def _kubernetes(resolved: Resolved, known: Known) -> list[Problem]:
    settings = resolved.recipe.kubernetes
    if settings is None or settings.distribution == "k3s":
        return []
    place = _at(resolved, "kubernetes", "distribution").place
    return [place.problem(f"kubernetes: {KUBEADM}", "distribution: k3s, or engine: debian")]


def _kubernetes_version(resolved: Resolved, known: Known) -> list[Problem]:
    settings = resolved.recipe.kubernetes
    if settings is None or settings.distribution != "k3s" or settings.version in (None, K3S, K3S.removeprefix("v")):
        return []
    place = _at(resolved, "kubernetes", "version").place
    return [place.problem(f"kubernetes.version: the layers build k3s {K3S}", "leave version out, or engine: debian")]


def _layers(resolved: Resolved, known: Known) -> list[Problem]:
    hint = f"known are: {', '.join(sorted(known.layers))}"
    return [
        word.place.problem(f"yocto.layers: no fragment {word.content!r}", hint)
        for word in _at(resolved, "yocto", "layers").items
        if word.content not in known.layers
    ]


def _formats(resolved: Resolved, known: Known) -> list[Problem]:
    hint = f"formats: [{', '.join(FORMATS)}]; a phone's boot.img and sparse disk are made without being asked for"
    return [
        word.place.problem(f"formats: not with the yocto engine: {word.content}", hint)
        for word in _at(resolved, "formats").items
        if word.content not in FORMATS
    ]


def _verity(resolved: Resolved, known: Known) -> list[Problem]:
    verity = resolved.document.at(("disk", "verity"))
    if verity is None or not verity.content:
        return []
    message = "disk.verity: the yocto engine writes no tree of hashes"
    return [verity.place.problem(message, "verity: false, or engine: debian")]


def _secure_boot(resolved: Resolved, known: Known) -> list[Problem]:
    signer = resolved.document.at(("secure_boot",))
    if signer is None or signer.content is None:
        return []
    return [signer.place.problem("secure_boot: the yocto engine signs nothing", "engine: debian")]


def _unsupported(resolved: Resolved) -> list[Problem]:
    """Each fragment that says of itself that it cannot be built, be it on the board at hand."""
    found = []
    for fragment in resolved.fragments:
        name = f"feature {fragment.path.stem!r}" if _is_feature(fragment.path) else fragment.path.name
        for document in (fragment.document, *_cases(resolved, fragment.document)):
            reason = document.at(("yocto", "unsupported"))
            if reason is not None and reason.content:
                message = f"{name}: not with the yocto engine: {reason.content}"
                found.append(reason.place.problem(message, "engine: debian"))
    return found


def _cases(resolved: Resolved, document: Value) -> list[Value]:
    """What a feature says under `by_board` for the board at hand."""
    found = []
    table = document.mapping.get("by_board")
    for key, cases in (table.mapping if table is not None else {}).items():
        value = resolved.document.at(("board", *key.split(".")))
        case = cases.mapping.get(str(value.content)) if value is not None else None
        found += [case] if case is not None else []
    return found


def _debian(resolved: Resolved) -> list[Problem]:
    """Packages and wheels of Debian that nothing stands for."""
    said = {each.name: "yocto" in each.document.mapping for each in resolved.fragments}
    boards = {each.name for each in resolved.fragments if _is_board(each.document)}
    groups: dict[tuple[str, str], list[Value]] = {}
    for key in DEBIAN_ONLY:
        for word in _at(resolved, key).items if resolved.document.at((key,)) is not None else []:
            if not said.get(word.place.file, False) and word.place.file not in boards:
                groups.setdefault((word.place.file, key), []).append(word)
    found = []
    for (_, key), words in groups.items():
        what = "wheels" if key.endswith("wheels") else "Debian packages"
        names = ", ".join(str(word.content) for word in words)
        hint = "say what stands for them, as yocto: {packages: [...]}, or yocto: {packages: []} for nothing"
        found.append(words[0].place.problem(f"the yocto engine has no {what}: {names}", hint))
    return found


def _is_board(document: Value) -> bool:
    """What a board needs of Debian, its machine brings."""
    return "board" in document.mapping and "image" not in document.mapping


def _is_feature(path: Path) -> bool:
    return path.parent.name == "features"
