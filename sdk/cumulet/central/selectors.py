"""Label selectors as Kubernetes has them, over labels and over claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cumulet.central.kube import Json


def match_labels(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector selects something with these labels; an empty one selects everything."""
    plain = selector.get("matchLabels") or {}
    return all(labels.get(name) == value for name, value in plain.items()) and match_all(
        selector.get("matchExpressions") or (), labels
    )


def match_all(requirements: Sequence[Json], found: Mapping[str, str]) -> bool:
    """Whether every requirement (key, operator, values) holds."""
    return all(match_one(each, found) for each in requirements)


def match_one(requirement: Json, found: Mapping[str, str]) -> bool:
    """Whether one requirement holds; one with an unknown operator never does."""
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or ()
    if operator == "In":
        return found.get(key) in values
    if operator == "NotIn":
        return found.get(key) not in values
    if operator == "Exists":
        return key in found
    return operator == "DoesNotExist" and key not in found


def parse_pairs(text: str) -> dict[str, str]:
    """`tier=edge,gpu=adreno-630` as a mapping. Raises ValueError."""
    pairs: dict[str, str] = {}
    for word in filter(None, (each.strip() for each in text.split(","))):
        name, found, value = word.partition("=")
        if not found or not name or not value:
            raise ValueError(f"{word!r} is not a condition; write it like tier=edge")
        pairs[name] = value
    return pairs
