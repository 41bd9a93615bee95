"""The recorder on a site's control node: what it may read, how it is started. A second run changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cumulet.core.api import Api
from cumulet.tasks import ApiObject, Device, Resident, install_resident, make_account, make_rights, make_secret

NAME: Final = "cumulet-monitor"
NAMESPACE: Final = "kube-system"
ACCESS: Final = "/etc/cumulet/monitor.conf"
UNIT: Final = "/etc/systemd/system/cumulet-monitor.service"
BALANCER: Final = "https://127.0.0.1:7443"
"""Every node of a site of several masters has its own way to them."""
READ: Final = ("get", "list")
RIGHTS: Final = (
    ("", ("nodes", "pods"), READ),
    ("apps", ("deployments",), READ),
    ("autoscaling", ("horizontalpodautoscalers",), READ),
    ("metrics.k8s.io", ("nodes", "pods"), READ),
)
"""It reads; it changes nothing."""


def make_objects() -> list[ApiObject]:
    """An account, its rights, and a token that does not end with the day."""
    rights = make_rights(NAME, NAMESPACE, RIGHTS)
    return [make_account(NAME, NAMESPACE), *rights, make_secret(NAME, NAMESPACE)]


def make_unit(site: str) -> str:
    """The service. The data disk must be there; a cluster that does not answer is no reason to end."""
    return f"""\
[Unit]
Description=Load of the site, and what its tasks use
After=network-online.target
Wants=network-online.target
RequiresMountsFor=/var/lib/cumulet
ConditionPathExists={ACCESS}

[Service]
ExecStart=/usr/bin/python3 -m cumulet.monitor --kubeconfig {ACCESS} --site {site}
Restart=always
RestartSec=30
StateDirectory=cumulet/monitor
MemoryHigh=96M
CPUWeight=20
Nice=10

[Install]
WantedBy=multi-user.target
"""


async def install(api: Api, device: Device, site: str, server: str, tell: Callable[[str], None]) -> bool:
    """Put the recorder on a device and start it; whether something had to be changed. Raises TargetError."""
    recorder = Resident(NAME, "the recorder", NAMESPACE, make_objects(), ACCESS, make_unit(site))
    return await install_resident(api, device, recorder, server, tell)
