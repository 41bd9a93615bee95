"""JSON Schemas for editors: what the files may say, which is not quite what they become.

In a file the board is a name, nothing but the version is required of a fragment,
and lists of other files are allowed.
"""

from __future__ import annotations

from typing import Any, Literal

from cumulet_builder.recipe.fragments import NOT_IN_FEATURES
from cumulet_builder.recipe.model import Board, Recipe

Kind = Literal["recipe", "board", "feature"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# The types of board.py: in a recipe the board is only named.
BOARD_PARTS = (
    "Android",
    "Board",
    "Boot",
    "Flash",
    "Kernel",
    "Loader",
    "Missing",
    "Qemu",
    "Storage",
    "Without",
    "Write",
)
# Mappings that several fragments may fill together; what stands in a list stands there whole.
MERGED_PARTS = ("Flash", "Kernel", "Loader", "Qemu")
BOARD = {"type": "string", "description": "Name of a bundled board, or a path ending in .yaml"}

BY_BOARD = {
    "type": "object",
    "description": "Key of the board, such as modem.kind -> its value -> what the feature brings on such boards too",
    "additionalProperties": {"type": "object", "additionalProperties": {"type": "object"}},
}


def make_schema(kind: Kind) -> dict[str, Any]:
    """The schema of one kind of file."""
    schema = Board.model_json_schema() if kind == "board" else Recipe.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    schema["required"] = {"recipe": ["version", "image"], "board": ["version"], "feature": ["version", "title"]}[kind]
    if kind == "board":
        properties["defaults"] = {**properties["defaults"], "additionalProperties": True}
        for name in MERGED_PARTS:
            schema["$defs"][name].pop("required", None)
    else:
        properties["board"] = BOARD
        for name in BOARD_PARTS:
            schema["$defs"].pop(name, None)
    if kind == "feature":
        properties["by_board"] = BY_BOARD
        for name in NOT_IN_FEATURES:
            properties.pop(name)
    return {"$schema": DIALECT, **schema, "title": f"Cumulet {kind}", "description": _describe(kind)}


def _describe(kind: Kind) -> str:
    words = {"recipe": "What goes into an image", "board": "A board as data", "feature": "What a feature brings"}
    return words[kind]
