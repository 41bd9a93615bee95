"""Packages: what is published once, checked by signature and digest, and put on every device of a site.

`index` is the document, `signature` says who made it, `store` and `push` publish it.
`device` is what runs on a device: bringing, handing on, unpacking; `bundle` takes it there.
"""

from cumulet.packages.device.bundle import COMMAND, make_bundle
from cumulet.packages.device.sources import check_source
from cumulet.packages.index import KINDS, Image, Index, Kind, Package, parse_index
from cumulet.packages.push import push_store
from cumulet.packages.signature import load_public, load_public_text, make_key, verify
from cumulet.packages.store import Label, add_package

__all__ = [
    "COMMAND",
    "KINDS",
    "Image",
    "Index",
    "Kind",
    "Label",
    "Package",
    "add_package",
    "check_source",
    "load_public",
    "load_public_text",
    "make_bundle",
    "make_key",
    "parse_index",
    "push_store",
    "verify",
]
