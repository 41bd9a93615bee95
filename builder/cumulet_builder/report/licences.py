"""Licence names: out of Debian copyright files, into the names that SPDX knows."""

from __future__ import annotations

import re
from typing import Final

FORMAT = re.compile(r"^Format(-Specification)?:.*(copyright-format|dep5|DEP5)", re.MULTILINE)
LICENCE = re.compile(r"^License:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z]+(?:-\d+(?:\.\d+)*)?)")
GNU = re.compile(r"(A?GPL|LGPL|GFDL)-(\d(?:\.\d)?)(\+?)")
SPDX: Final = {
    "Expat": "MIT",
    "BSD-3-clause": "BSD-3-Clause",
    "BSD-2-clause": "BSD-2-Clause",
    "BSD-4-clause": "BSD-4-Clause",
    "Apache-2": "Apache-2.0",
    "Artistic": "Artistic-1.0-Perl",
    "Artistic-2": "Artistic-2.0",
    "MPL-1.1": "MPL-1.1",
    "MPL-2": "MPL-2.0",
    "CC0": "CC0-1.0",
    "ZLIB": "Zlib",
    "zlib": "Zlib",
}


def licences_of_copyright(text: str) -> tuple[str, ...]:
    """The licences that a Debian copyright file names, sorted, as SPDX names where there is one.

    A machine-readable file says them in its `License:` fields. Of any other file
    only its pointers to the licences every Debian system carries can be told.
    """
    names = (LICENCE if FORMAT.search(text) else COMMON).findall(text)
    return tuple(sorted({make_spdx(name) for name in names}))


def make_spdx(name: str) -> str:
    """The SPDX name of a licence in Debian's spelling; one that SPDX does not know stays as it is."""
    words = re.split(r"(,?\s+(?:and|or|with)\s+)", name.strip())
    return "".join(_join(word) if place % 2 else _one(word) for place, word in enumerate(words))


def _join(word: str) -> str:
    return f" {word.strip(' ,').upper()} "


def _one(name: str) -> str:
    if name in SPDX:
        return SPDX[name]
    match = GNU.fullmatch(name)
    if not match:
        return name
    version = match[2] if "." in match[2] else f"{match[2]}.0"
    if match[1] == "GFDL" and version == "1.0":
        return name
    return f"{match[1]}-{version}-{'or-later' if match[3] else 'only'}"


def licence_of_metadata(text: str) -> str:
    """The licence that a Python package's METADATA names, or an empty text."""
    head = text.partition("\n\n")[0]
    for field in ("License-Expression", "License"):
        match = re.search(rf"^{field}: (\S[^\n]{{0,60}})$", head, re.MULTILINE)
        if match:
            return match[1].strip()
    match = re.search(r"^Classifier: License :: OSI Approved :: (.+)$", head, re.MULTILINE)
    return match[1].strip() if match else ""
