"""Models: signed OCI images that are carried to a site once, checked wherever they are used, and switched safely.

`image` builds one from a folder, `documents` is what is signed of it, `check` asks whether it still is what was
signed, `registry` brings it to a registry and back, `way` says how a node keeps it, `roll` (with `health`) switches a
task to it and back, `prune` removes what nobody needs any more.
"""

from cumulet.models.check import check_archive, check_files, load_release, read_release
from cumulet.models.documents import PREFIX, Card, Release
from cumulet.models.health import Health
from cumulet.models.image import build_model
from cumulet.models.prune import FROM, MODEL, Held, prune_models, prune_site, read_pins
from cumulet.models.publish import Published, find_size, publish_model
from cumulet.models.registry import pull_model, push_model
from cumulet.models.roll import Rolled, Switch, return_model, roll_model
from cumulet.models.way import Choice, Way, choose_way

__all__ = [
    "FROM",
    "MODEL",
    "PREFIX",
    "Card",
    "Choice",
    "Health",
    "Held",
    "Published",
    "Release",
    "Rolled",
    "Switch",
    "Way",
    "build_model",
    "check_archive",
    "check_files",
    "choose_way",
    "find_size",
    "load_release",
    "prune_models",
    "prune_site",
    "publish_model",
    "pull_model",
    "push_model",
    "read_pins",
    "read_release",
    "return_model",
    "roll_model",
]
