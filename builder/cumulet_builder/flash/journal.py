"""What an interrupted flashing has done on a device that cannot be read: one small file per device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.files import sha256_text, write_text
from cumulet_builder.flash.plan import Step


@dataclass(frozen=True, slots=True)
class Journal:
    """The notes about one device, by its serial number, in a folder of the user's."""

    folder: Path
    serial: str

    @property
    def path(self) -> Path:
        """The file; it is there only while a flashing is unfinished."""
        return self.folder / f"{sha256_text(self.serial)[:24]}.json"

    def load(self) -> frozenset[str]:
        """The keys of the steps that were done; none if there is nothing to go on with."""
        try:
            document = json.loads(self.path.read_text())
            return frozenset(document["done"]) if document["serial"] == self.serial else frozenset()
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()

    def note(self, step: Step) -> None:
        """Remember that a step has been done; on disk before the next one begins."""
        done = sorted({*self.load(), step.key})
        write_text(self.path, json.dumps({"version": 1, "serial": self.serial, "done": done}, indent=1))

    def forget(self) -> None:
        """The flashing is finished, or begins again."""
        self.path.unlink(missing_ok=True)
