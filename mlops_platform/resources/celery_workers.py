"""Whether the Celery broker can be reached, and which workers answer on it."""

from __future__ import annotations

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings, without_password

PING_SECONDS = 2.0


def celery_workers(settings: Settings) -> list[str]:
    """Return the names of the Celery workers that answer within two seconds.

    Raises:
        PlatformError: The broker cannot be reached, or no worker answers.
    """
    from celery import Celery
    from kombu.exceptions import OperationalError

    broker = settings.celery_broker.get_secret_value()
    shown = without_password(broker)
    with Celery(broker=broker, set_as_current=False) as app:
        try:
            replies = app.control.ping(timeout=PING_SECONDS)
        except OperationalError as error:
            raise PlatformError(f"{shown} (MLOPS_CELERY_BROKER) cannot be reached: {error}") from None
    if not replies:
        raise PlatformError(
            f"No Celery worker answers on {shown} (MLOPS_CELERY_BROKER): "
            "start one with `celery --app mlops_platform.celery_app worker`."
        )
    return sorted(name for reply in replies for name in reply)
