"""Messages to people: always in the log, and by apprise to whatever service the setting names."""

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
    """Sends messages along routes.

    A plain object and not a ConfigurableResource, because Dagster's UI shows the values of those: an address of
    apprise holds a password.

    Attributes:
        routes: What MLOPS_ALERTS holds: addresses of apprise, parted by blanks; `OWNER=ADDRESS` for one owner's.
    """

    routes: SecretStr

    def send(self, owners: Sequence[str], title: str, text: str) -> None:
        """Send a message to each address of its owners, and to those that are everyone's.

        Args:
            owners: Such as `team:data`.
            title: One line.
            text: The message.

        Raises:
            PlatformError: The setting is malformed, or a service did not take the message.
        """
        addresses = [address for owner, address in self.parsed() if owner == EVERYONE or owner in owners]
        if not addresses:
            return
        import apprise

        for address in addresses:
            service = apprise.Apprise()
            kind = address.partition("://")[0]
            if not service.add(address):
                raise PlatformError(f"MLOPS_ALERTS: apprise does not understand the address of {kind}; mend it.")
            if not service.notify(body=text, title=title):
                raise PlatformError(f"An alert could not be sent by {kind}: check MLOPS_ALERTS and that service.")

    def parsed(self) -> list[tuple[str, str]]:
        """The routes, as (owner, address).

        Raises:
            PlatformError: The setting is malformed.
        """
        found = []
        for number, entry in enumerate(self.routes.get_secret_value().split(), start=1):
            route = _ROUTE.fullmatch(entry)
            if route is None:
                # the entry itself may hold a password
                raise PlatformError(
                    f"Entry {number} of MLOPS_ALERTS is no address: write SERVICE://... as apprise takes it, or "
                    "team:NAME=SERVICE://... for one owner."
                )
            found.append((route[1] or EVERYONE, route[2]))
        return found
