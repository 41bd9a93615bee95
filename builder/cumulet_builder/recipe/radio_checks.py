"""Impossible combinations around modem and satellite receiver. Like all such checks they read the merged document."""

from __future__ import annotations

from cumulet.core.documents import Value
from cumulet.core.errors import Problem
from cumulet_builder.recipe.radio import Gnss

MODEM, GNSS = "modem-5g", "gnss-beidou"
# Feature -> the part of a board that it needs, and what people call that.
NEEDS = {MODEM: ("modem", "modem"), GNSS: ("gnss", "satellite receiver")}


def find_radio_conflicts(document: Value) -> list[Problem]:
    """Every impossible combination around `modem` and `gnss`."""
    checks = (_features, _parts, _constellations, _failover, _secrets, _tests)
    return [problem for each in checks for problem in each(document)]


def _present(document: Value, *key: str) -> Value | None:
    value = document.at(key)
    return value if value is not None and value.content is not None else None


def _features(document: Value) -> list[Problem]:
    """A feature needs its part of the board."""
    board, problems = _present(document, "board"), []
    features = _present(document, "features")
    for word in features.items if features is not None and board is not None else []:
        part, name = NEEDS.get(str(word.content), ("", ""))
        if part and board is not None and _present(board, part) is None:
            title = board.mapping.get("title")
            message = f"feature {word.content!r}: no {name} is known on the board {title.content if title else ''}"
            problems.append(word.place.problem(message.strip(), f"leave it out, or set board.{part}.kind"))
    return problems


def _parts(document: Value) -> list[Problem]:
    """What is set up must be there."""
    features = _present(document, "features")
    names = features.plain() if features is not None else []
    problems = []
    for feature, (part, _) in NEEDS.items():
        value = _present(document, part)
        if value is not None and feature not in names:
            problems.append(value.key.problem(f"{part}: needs the feature {feature!r}", f"add {feature} to features"))
    return problems


def _constellations(document: Value) -> list[Problem]:
    """The receiver must be able to hear what is asked for, and the feature's own system must be asked for."""
    asked = _present(document, "gnss", "constellations")
    if asked is None:
        return []
    names = [str(word.content) for word in asked.items]
    known = _present(document, "board", "gnss", "constellations")
    able = [str(word.content) for word in known.items] if known is not None else names
    title = document.at(("board", "title"))
    problems = [
        word.place.problem(
            f"gnss.constellations: the receiver of {title.content if title else 'the board'} cannot hear "
            f"{word.content!r}",
            f"it hears {', '.join(able)}",
        )
        for word in asked.items
        if str(word.content) not in able and word.content in ("beidou", "gps", "glonass", "galileo", "qzss")
    ]
    if "beidou" not in names:
        message = "gnss.constellations: the feature 'gnss-beidou' without 'beidou'"
        problems.append(asked.place.problem(message, f"default: {list(Gnss.model_fields['constellations'].default)}"))
    return problems


def _failover(document: Value) -> list[Problem]:
    order = _present(document, "modem", "failover")
    if order is None or "modem" in [word.content for word in order.items] or not isinstance(order.content, list):
        return []
    return [order.place.problem("modem.failover: does not name the modem", "failover: [ethernet, modem]")]


def _secrets(document: Value) -> list[Problem]:
    """A secret is found by a variable or by a file, not by the other's key."""
    problems = []
    for what in ("pin", "password"):
        secret = _present(document, "modem", what)
        if secret is None:
            continue
        if not isinstance(secret.content, dict):
            message = f"modem.{what}: a secret is never written here, only where the device finds it"
            problems.append(secret.place.problem(message, f"{what}: {{from: env}}, or {{from: file}}"))
            continue
        origin = secret.mapping.get("from")
        wrong = {"env": "path", "file": "name"}.get(str(origin.content) if origin is not None else "")
        if wrong in secret.mapping:
            message = f"modem.{what}.{wrong}: is not for from: {origin.content if origin else ''}"
            problems.append(secret.mapping[wrong].key.problem(message, "env has a name, file has a path"))
    return problems


def _tests(document: Value) -> list[Problem]:
    """The boot checks need what they check, and a port behind which it can be simulated."""
    tests, problems = _present(document, "test"), []
    for word in tests.items if tests is not None else []:
        part = str(word.content)
        if part not in ("modem", "gnss"):
            continue
        feature = MODEM if part == "modem" else GNSS
        if _present(document, part) is None:
            problems.append(word.place.problem(f"test: {part!r} needs {part} in the image", f"add feature {feature}"))
        elif _present(document, "board", "qemu", "ports", part) is None:
            message = f"test: {part!r}: the board has no port for it in QEMU"
            problems.append(word.place.problem(message, f"add board.qemu.ports.{part}, or leave the check out"))
    return problems
