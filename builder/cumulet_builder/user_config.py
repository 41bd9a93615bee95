"""What the user's own settings file says: how this computer builds. Nothing in it changes what is built.

`$XDG_CONFIG_HOME/cumulet/config.yaml`, or `~/.config/cumulet/config.yaml`; none is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from cumulet.core.documents import load_document, validate
from cumulet_builder.recipe.fragments import shown_name
from cumulet_builder.recipe.model import Part

KIND = "settings file"


class YoctoConfig(Part):
    """How bitbake runs here, and whom it shares its results with."""

    downloads: str = Field("", description="Folder of fetched sources; default: in the cache")
    sstate: str = Field("", description="Folder of finished tasks; default: in the cache")
    sstate_mirrors: tuple[str, ...] = Field((), description="Where others' finished tasks are, as https://host/sstate")
    hash_server: str = Field("auto", description="Hash equivalence server, as host:port; auto is one of bitbake's own")
    source_mirror: str = Field("", description="Asked for sources before their own addresses, as https://host/sources")
    clones: str = Field("", description="Folder with clones of the repositories; then none is fetched")
    offline: bool = Field(False, description="Fetch nothing; fail where something is missing")
    threads: int | None = Field(None, ge=1, description="Tasks at a time, and processes of each; default: bitbake's")
    container: Literal["auto", "always", "never"] = Field(
        "auto", description="Build in kas' container; auto: when this computer lacks what bitbake needs"
    )


class UserConfig(Part):
    """The whole file."""

    version: Literal[1] = 1
    yocto: YoctoConfig = YoctoConfig()


def config_path() -> Path:
    """Where the settings file is, whether or not it is there."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "cumulet" / "config.yaml"


def load_user_config(path: Path | None = None) -> UserConfig:
    """The settings of this user. Raises UsageError with every problem in the file."""
    path = path or config_path()
    if not path.exists():
        return UserConfig()
    return validate(UserConfig, load_document(path, kind=KIND, name=shown_name(path)), KIND)
