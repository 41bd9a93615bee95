"""Packages: what is published once, checked by signature and digest, and put on every device of a site.

`index` is the document, `signature` says who made it, `store` and `push` publish it.
`device` is what runs on a device: bringing, handing on, unpacking; `bundle` takes it there.
"""

from cumulet.packages.archive import digest_chunks
from cumulet.packages.device.bundle import COMMAND, make_bundle
from cumulet.packages.device.chunks import Blob, Part
from cumulet.packages.device.client import BrokenError, Client, RefusedError
from cumulet.packages.device.pull import Effort, pull
from cumulet.packages.device.sources import Registry, RegistryPlace, check_source, parse_registry
from cumulet.packages.index import KINDS, Image, Index, Kind, Package, parse_index
from cumulet.packages.push import push_store, send_blob, send_bytes
from cumulet.packages.signature import load_private, load_public, load_public_text, make_key, sign, verify
from cumulet.packages.store import Label, add_package

__all__ = [
    "COMMAND",
    "KINDS",
    "Blob",
    "BrokenError",
    "Client",
    "Effort",
    "Image",
    "Index",
    "Kind",
    "Label",
    "Package",
    "Part",
    "RefusedError",
    "Registry",
    "RegistryPlace",
    "add_package",
    "check_source",
    "digest_chunks",
    "load_private",
    "load_public",
    "load_public_text",
    "make_bundle",
    "make_key",
    "parse_index",
    "parse_registry",
    "pull",
    "push_store",
    "send_blob",
    "send_bytes",
    "sign",
    "verify",
]
