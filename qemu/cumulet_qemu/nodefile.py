"""The node document that a machine is given at its start: what wins over the one in the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet_qemu.published import Published

HOSTNAME = "cumulet-check"


def make_document(published: Published, authorized_keys: Sequence[str], hostname: str | None = None) -> str:
    """A document that makes a one-node cluster of an image with Kubernetes."""
    lines = ["version: 1", f"role: {'single' if published.kubernetes is not None else 'none'}"]
    if hostname is not None:
        lines.append(f"hostname: {hostname}")
    if authorized_keys:
        lines += ["ssh_authorized_keys:", *(f"  - {key}" for key in authorized_keys)]
    return "\n".join(lines) + "\n"


def load_document(path: Path) -> str:
    """The text of a node document that the user wrote. Raises UsageError if it is none."""
    import yaml  # noqa: PLC0415 - 30 ms that only this needs

    try:
        text = path.read_text()
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"{path}: {reason}", hint="--node FILE") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not YAML: {reason}", hint="a node document is YAML with 'version: 1'") from error
    if not isinstance(document, dict) or document.get("version") != 1:
        raise UsageError(f"{path}: no node document: 'version: 1' is missing", hint="see docs/testing.md")
    # One key a line: the image reads it with a shell, before anything else is there.
    return str(yaml.safe_dump(document, default_flow_style=False, sort_keys=False, width=1 << 16))
