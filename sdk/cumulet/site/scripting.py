"""Programs of the user's own, run once on every device of some roles. Once means: once for each content."""

from __future__ import annotations

from cumulet.core.files import sha256_text
from cumulet.site.actions import Put, Run, Step
from cumulet.site.facts import SiteFacts
from cumulet.site.model import Script, SiteDocument, SiteNode, Sources

FOLDER = "/var/lib/cumulet/site/scripts"
SECONDS = 3600.0


def make_script_steps(site: SiteDocument, facts: SiteFacts, sources: Sources) -> list[Step]:
    """The scripts that a device has not run yet in their present form, in the order of the document."""
    return [
        _make_step(script, node, sources)
        for node in site.nodes
        for script in site.scripts
        if node.role in script.on and done_path(script, sources) not in facts.hosts[node.name].files
    ]


def done_path(script: Script, sources: Sources) -> str:
    """The file on a device that says that it has run this script in this form."""
    return f"{FOLDER}/{script.name}-{sha256_text(sources[script.run])[:16]}.done"


def list_script_paths(site: SiteDocument, sources: Sources) -> list[str]:
    """The marks of all scripts."""
    return [done_path(script, sources) for script in site.scripts]


def _make_step(script: Script, node: SiteNode, sources: Sources) -> Step:
    done = done_path(script, sources)
    path = f"{FOLDER}/{script.name}"
    actions = (
        Put(path, sources[script.run], 0o755),
        Run((path,), seconds=SECONDS),
        Run(("sh", "-c", f"sync -f {FOLDER} && touch {done} && sync {done}")),
    )
    return Step("scripts.run", node.name, script.name, "has not run yet in this form", actions)
