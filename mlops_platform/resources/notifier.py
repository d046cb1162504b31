"""Alerts to people, sent by apprise to the services of MLOPS_ALERTS; the alert sensor decides what is worth one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from mlops_platform.errors import PlatformError

EVERYONE = "*"
_ROUTE = re.compile(r"(?:(team:[\w.-]+|[^\s@:/=]+@[^\s@:/=]+|\*)=)?(\w[\w+.-]*://\S+)", re.ASCII)


@dataclass(frozen=True)
class Notifier:
    """Messages to the owners of assets.

    A plain object and not a ConfigurableResource, because Dagster's UI shows the values of those, and an address of
    apprise contains a password.

    Attributes:
        routes: The value of MLOPS_ALERTS: space-separated addresses of apprise; `OWNER=ADDRESS` is for one owner.
    """

    routes: SecretStr

    def send(self, owners: Sequence[str], title: str, text: str) -> None:
        """Send a message to the addresses of its owners, such as `team:data`, and to those that get all messages.

        Raises:
            PlatformError: The setting is invalid, or a service did not accept the message.
        """
        addresses = [address for owner, address in self.parse() if owner == EVERYONE or owner in owners]
        if not addresses:
            return
        import apprise

        for address in addresses:
            service = apprise.Apprise()
            kind = address.partition("://")[0]
            if not service.add(address):
                raise PlatformError(f"MLOPS_ALERTS: apprise does not understand the address of {kind}; correct it.")
            if not service.notify(body=text, title=title):
                raise PlatformError(f"An alert could not be sent by {kind}: check MLOPS_ALERTS and that service.")

    def parse(self) -> list[tuple[str, str]]:
        """Return the routes as pairs of owner and address; an invalid setting is a `PlatformError`."""
        routes = []
        for number, entry in enumerate(self.routes.get_secret_value().split(), start=1):
            route = _ROUTE.fullmatch(entry)
            if route is None:
                # the entry may contain a password: do not print it
                raise PlatformError(
                    f"Entry {number} of MLOPS_ALERTS is not an address: write an apprise address SERVICE://..., or "
                    "team:NAME=SERVICE://... for one owner."
                )
            routes.append((route[1] or EVERYONE, route[2]))
        return routes
