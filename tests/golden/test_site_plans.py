"""What a bring-up does on which device, as `--dry-run` tells it, compared with texts that a person has read.

After a wanted change, write them anew and look at the difference:

    CUMULET_WRITE_GOLDEN=1 pytest tests/golden/test_site_plans.py && git diff tests/golden
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cumulet.site.actions import describe
from cumulet.site.facts import HostFacts, SiteFacts
from cumulet.site.model import SiteDocument, parse_site
from cumulet.site.plan import make_plan

DATA = Path(__file__).parent / "test_site_data"
ROLES = {"p1": "control", "p2": "master", "p3": "master", "p4": "worker"}


def make_site(distribution: str) -> SiteDocument:
    lines = "".join(f"- {{name: {n}, address: 10.0.0.1{n[1]}, role: {role}}}\n" for n, role in ROLES.items())
    return parse_site(f"version: 1\nsite: pier-7\ndistribution: {distribution}\nnodes:\n{lines}", "s")


def make_text(site: SiteDocument, facts: SiteFacts) -> str:
    """Phases, steps, actions. What a file has in it is another golden file's business."""
    lines = []
    for phase in make_plan(site, facts, {}):
        lines.append(f"== {phase.name}: {phase.title} (at once: {phase.at_once})")
        for step in phase.steps:
            lines.append(f"{step.id}: {step.title} ({step.why})")
            lines += [f"    {describe(action)}" for action in step.actions]
    return re.sub(r"\d+ bytes, sha256 \w+", "TEXT", "\n".join(lines)) + "\n"


def expect(name: str, text: str) -> None:
    path = DATA / f"{name}.txt"
    if os.environ.get("CUMULET_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("distribution", ["k3s", "kubeadm"])
def test_bare_devices(distribution: str) -> None:
    facts = SiteFacts({name: HostFacts(name) for name in ROLES})
    expect(f"{distribution}-bare", make_text(make_site(distribution), facts))
