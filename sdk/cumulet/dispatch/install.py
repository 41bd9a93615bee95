"""The dispatcher on a site's control node: what it may do there, how it is started. A second run changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cumulet.core.api import Api
from cumulet.dispatch.facts import NAMESPACE
from cumulet.tasks import ApiObject, Device, Resident, install_resident, make_account, make_rights, make_secret

NAME: Final = "cumulet-dispatch"
ACCESS: Final = "/etc/cumulet/dispatch.conf"
READ: Final = ("get", "list")
WRITE: Final = (*READ, "create", "patch", "delete")
EVERYWHERE: Final = (("", ("nodes", "pods"), READ), ("metrics.k8s.io", ("nodes",), READ))
IN_TASKS: Final = (
    ("cumulet.dev", ("tasks",), READ),
    ("cumulet.dev", ("tasks/status",), ("patch",)),
    ("apps", ("deployments",), WRITE),
    ("batch", ("jobs",), WRITE),
    ("autoscaling", ("horizontalpodautoscalers",), WRITE),
)
"""It writes in one namespace, and nothing there that gives rights."""


def make_objects() -> list[ApiObject]:
    """The namespace of tasks, an account, its rights, and a token that does not end with the day."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [
        (f"/api/v1/namespaces/{NAMESPACE}", space),
        make_account(NAME, NAMESPACE),
        *make_rights(NAME, NAMESPACE, EVERYWHERE),
        *make_rights(NAME, NAMESPACE, IN_TASKS, only=NAMESPACE),
        make_secret(NAME, NAMESPACE),
    ]


def make_unit(site: str) -> str:
    """The service. The data disk must be there; a cluster that does not answer is no reason to end."""
    return f"""\
[Unit]
Description=Tasks from the centre: placed, started, told of
After=network-online.target
Wants=network-online.target
RequiresMountsFor=/var/lib/cumulet
ConditionPathExists={ACCESS}

[Service]
ExecStart=/usr/bin/python3 -m cumulet.dispatch --kubeconfig {ACCESS} --site {site}
Restart=always
RestartSec=10
UMask=0077
NoNewPrivileges=yes
MemoryHigh=96M
Nice=5

[Install]
WantedBy=multi-user.target
"""


async def install(api: Api, device: Device, site: str, server: str, tell: Callable[[str], None]) -> bool:
    """Put the dispatcher on a device and start it; whether something had to be changed. Raises TargetError.

    `server` is how the device reaches an API server of the site.
    """
    dispatcher = Resident(NAME, "the dispatcher", NAMESPACE, make_objects(), ACCESS, make_unit(site))
    return await install_resident(api, device, dispatcher, server, tell)
