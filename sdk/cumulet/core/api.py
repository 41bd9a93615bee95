"""What a part needs of a Kubernetes API server, without knowing how it is reached. Tests have one of their own."""

from __future__ import annotations

from typing import Any, Protocol

Json = dict[str, Any]


class Api(Protocol):
    """An API server, as one user."""

    async def call(self, method: str, path: str, body: Json | None = None, **more: Any) -> Json:
        """Send a request and give back the object in the answer.

        `query` are parameters, `content` the type of the body. Raises TargetError; one for a refusal has HTTP's
        `status`.
        """


def status_of(error: Exception) -> int:
    """HTTP's status of a refusal; 0 for an error that is none."""
    found = getattr(error, "status", 0)
    return found if isinstance(found, int) else 0
