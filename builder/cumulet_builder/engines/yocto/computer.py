"""The second kas document: how this computer builds. Made from the user's settings; decides nothing about the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cumulet_builder.engines.yocto.document import VERSION, make_assignments
from cumulet_builder.engines.yocto.repositories import LayerLock
from cumulet_builder.user_config import YoctoConfig

OFFLINE = {
    "BB_NO_NETWORK": "1",
    "CONNECTIVITY_CHECK_URIS": "",
    # A program that is fetched; without it bitbake builds more itself.
    "INHERIT:remove": "uninative",
}


def make_computer_document(config: YoctoConfig, lock: LayerLock, folder: Path) -> dict[str, Any]:
    """The document; `folder` is the workspace, in which downloads and finished tasks are unless the user says where."""
    repos = {each.name: _local(each.layers, Path(config.clones) / each.name) for each in lock.repositories}
    return {
        "header": {"version": VERSION},
        **({"repos": repos} if config.clones else {}),
        "local_conf_header": {"computer": make_assignments(make_settings(config, folder))},
    }


def _local(layers: dict[str, str | None], path: Path) -> dict[str, Any]:
    return {"url": None, "branch": None, "path": str(path), **({"layers": dict(layers)} if layers else {})}


def make_settings(config: YoctoConfig, folder: Path) -> dict[str, str]:
    """Variables of bitbake's configuration."""
    settings = {
        "DL_DIR": config.downloads or str(folder / "downloads"),
        "SSTATE_DIR": config.sstate or str(folder / "sstate"),
        "BB_SIGNATURE_HANDLER": "OEEquivHash",
        "BB_HASHSERVE": config.hash_server,
    }
    if config.sstate_mirrors:
        settings["SSTATE_MIRRORS"] = " ".join(
            f"file://.* {each.rstrip('/')}/PATH;downloadfilename=PATH" for each in config.sstate_mirrors
        )
    if config.source_mirror:
        settings |= {"SOURCE_MIRROR_URL": config.source_mirror, "INHERIT:append": " own-mirrors"}
    if config.threads:
        settings |= {"BB_NUMBER_THREADS": str(config.threads), "PARALLEL_MAKE": f"-j {config.threads}"}
    return settings | (OFFLINE if config.offline else {})
