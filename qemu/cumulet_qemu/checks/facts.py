"""What the boot checks know about a machine: its identity, and the command line of its cluster."""

from __future__ import annotations

from dataclasses import dataclass

from cumulet_qemu.guest import Guest
from cumulet_qemu.published import Cluster

MARKERS = ("/etc/cumulet-check", "/var/lib/cumulet-check")
READY_SECONDS = 1800.0
READY_CONDITIONS = "get nodes -o jsonpath='{.items[*].status.conditions[?(@.type==\"Ready\")].status}'"


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be the same before and after a reboot, and the boot's own number, which must not."""

    machine_id: str
    host_key: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The cluster in the machine: `kubectl` and `ctr` are the words that start these programs there."""

    node: Guest
    facts: Cluster
    kubectl: str
    ctr: str

    def get(self, words: str, seconds: float = 300.0) -> str:
        """What `kubectl WORDS` prints; repeated until it succeeds."""
        return self.node.until(f"{self.kubectl} {words}", seconds)


def probe_identity(node: Guest) -> Identity:
    """Read the identity from the running machine."""
    return Identity(
        machine_id=node.output("cat /etc/machine-id"),
        host_key=node.output("cat /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null || true"),
        boot_id=node.output("cat /proc/sys/kernel/random/boot_id"),
    )
