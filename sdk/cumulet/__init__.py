"""Cumulet's SDK: small edge clouds made of phone-class boards.

`from cumulet import Site` is the way to a site of devices; it is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cumulet.site import Site

__all__ = ["Site", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What is slow to import, on its first use."""
    if name == "Site":
        from cumulet.site import Site  # noqa: PLC0415 - half a second that most uses need not wait for

        return Site
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
