"""Which licence a Go module is under: told from the words of the LICENSE file in the module cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

NAMES: Final = ("LICENSE", "LICENCE", "COPYING", "LICENSE.txt", "LICENSE.md", "License", "LICENSE.code", "COPYING.txt")
REDISTRIBUTION: Final = r"Redistribution and use in source and binary forms"
# Words that are in every copy of a licence and in no other; the first that matches wins.
MARKS: Final = (
    ("Apache-2.0", r"Apache License\s+Version 2\.0"),
    ("MPL-2.0", r"Mozilla Public License,? (?:Version|version|v\.) ?2\.0"),
    ("AGPL-3.0-only", r"GNU AFFERO GENERAL PUBLIC LICENSE"),
    ("LGPL-3.0-only", r"GNU LESSER GENERAL PUBLIC LICENSE\s+Version 3"),
    ("GPL-3.0-only", r"GNU GENERAL PUBLIC LICENSE\s+Version 3"),
    ("GPL-2.0-only", r"GNU GENERAL PUBLIC LICENSE\s+Version 2"),
    ("ISC", r"Permission to use, copy, modify, and(?:/or)? distribute this software for any purpose"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("BSD-3-Clause", REDISTRIBUTION + r"[\s\S]*(?:Neither the names?|may (?:not )?be used to endorse)"),
    ("BSD-2-Clause", REDISTRIBUTION),
    ("CC0-1.0", r"CC0 1\.0 Universal"),
    ("Unlicense", r"This is free and unencumbered software released into the public domain"),
)  # fmt: skip


def classify(text: str) -> str:
    """The SPDX name of a licence text, or `NOASSERTION`."""
    flat = re.sub(r"\s+", " ", text)
    for name, pattern in MARKS:
        if re.search(pattern, flat, re.IGNORECASE if name.startswith("Apache") else 0):
            return name
    return "NOASSERTION"


def find_licence(module_cache: Path, path: str, version: str) -> str:
    """The licence of a module in the cache, or `NOASSERTION` if it has no file that tells."""
    folder = module_cache / f"{escape(path)}@{escape(version)}"
    for name in NAMES:
        file = folder / name
        if file.is_file():
            return classify(file.read_text(errors="replace"))
    return "NOASSERTION"


def escape(text: str) -> str:
    """A module path as the module cache spells it: `!a` for `A`."""
    return re.sub(r"[A-Z]", lambda match: "!" + match[0].lower(), text)
