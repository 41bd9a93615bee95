"""Changes to a site.yaml that keep everything else in it as it was written: comments, order, blank lines."""

from __future__ import annotations

import yaml

from cumulet.core.errors import UsageError


def add_node(text: str, name: str, address: str, role: str) -> str:
    """The document with one more node at the end of the list."""
    items, lines = _find_items(text), text.splitlines(keepends=True)
    last = items[-1]
    dash = lines[last.start_mark.line]
    indent = dash[: len(dash) - len(dash.lstrip())] if dash.lstrip().startswith("-") else "  "
    end = _end_line(last, lines)
    if end and not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    lines.insert(end, f"{indent}- {{name: {name}, address: {address}, role: {role}}}\n")
    return "".join(lines)


def remove_node(text: str, name: str) -> str:
    """The document without a node. Raises UsageError if it has none of this name."""
    item, lines = _find_item(text, name), text.splitlines(keepends=True)
    del lines[item.start_mark.line : _end_line(item, lines)]
    return "".join(lines)


def change_role(text: str, name: str, role: str) -> str:
    """The document with another role for a node. Raises UsageError if it has none of this name."""
    value = _find_value(_find_item(text, name), "role")
    return text[: value.start_mark.index] + role + text[value.end_mark.index :]


def _find_items(text: str) -> list[yaml.MappingNode]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "nodes" and isinstance(value, yaml.SequenceNode) and not value.flow_style:
                return list(value.value)
    raise UsageError("the nodes of this document are not written one a line", hint="write each as: - {name: ..., ...}")


def _find_item(text: str, name: str) -> yaml.MappingNode:
    for item in _find_items(text):
        if _find_value(item, "name").value == name:
            return item
    raise UsageError(f"{name}: no such node in the document")


def _find_value(item: yaml.MappingNode, wanted: str) -> yaml.ScalarNode:
    for key, value in item.value:
        if key.value == wanted and isinstance(value, yaml.ScalarNode):
            return value
    raise UsageError(f"a node without {wanted}")


def _end_line(item: yaml.MappingNode, lines: list[str]) -> int:
    """The line after an item; a block's end mark is where the next thing begins, comments and blanks passed over."""
    if item.flow_style:
        return int(item.end_mark.line) + 1
    end = int(item.end_mark.line)
    while end > item.start_mark.line + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end
