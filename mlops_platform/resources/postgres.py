"""Postgres, which stores Dagster's runs and Optuna's studies in production: connections and advisory locks.

The tables belong to Dagster and Optuna. An address contains a password, which no message here includes.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_platform.errors import PlatformError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

CONNECT_SECONDS = 10


def is_postgres(url: str) -> bool:
    """Return whether a storage address is one of Postgres."""
    return url.startswith("postgres")


def parsed(url: str, seconds: int = CONNECT_SECONDS) -> "URL":
    """Parse an address, and set a connection timeout.

    Args:
        url: postgresql+psycopg2://user:password@host:port/database.
        seconds: The timeout, unless the address has its own.

    Raises:
        PlatformError: The address is invalid.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
        if address.drivername != "postgresql+psycopg2":
            raise ArgumentError
    except (ArgumentError, ValueError):
        # the error may quote a part of the password
        raise PlatformError(
            "MLOPS_POSTGRES_URL is no address of the form postgresql://user:password@host:port/database: correct it, "
            "and write characters such as @ or / in the password as %40 or %2F."
        ) from None
    if "connect_timeout" in address.query:
        return address
    return address.update_query_dict({"connect_timeout": str(seconds)})


def shown(url: str) -> str:
    """Return an address without its password; one of SQLite as it is."""
    return parsed(url).set(query={}).render_as_string(hide_password=True) if is_postgres(url) else url


def require_postgres(url: str, *, create_schema: str | None = None, seconds: int = CONNECT_SECONDS) -> None:
    """Check that the server accepts a connection.

    Args:
        url: Its address.
        create_schema: A schema to create if it is missing.
        seconds: Timeout for each IP address of the host.

    Raises:
        PlatformError: The server does not answer, or refuses the user.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(url, seconds)
    try:
        with engine.begin() as connection:
            connection.execute(text("select 1"))
            if create_schema:
                # of two processes that create it at once, one would fail
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _key(create_schema)})
                connection.execute(text(f'create schema if not exists "{create_schema}"'))
    except SQLAlchemyError as error:
        raise unreachable(url, error) from None
    finally:
        engine.dispose()


def unreachable(url: str, error: Exception) -> PlatformError:
    """Return the error for a server that cannot be used."""
    # further lines of the text contain the statement and a link
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return PlatformError(
        f"Postgres at {shown(url)} cannot be used ({lines[0]}): start it, or set MLOPS_POSTGRES_URL to its address."
    )


@contextmanager
def advisory_lock(url: str, name: str) -> Iterator[None]:
    """Wait for a lock that all clients of the database share, and hold it; the server releases it if this process dies.

    Raises:
        PlatformError: The server cannot be used.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(url)
    try:
        try:
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": _key(name)})
        except SQLAlchemyError as error:
            raise unreachable(url, error) from None
        with connection:
            yield
    finally:
        # closes the session, and with it the lock
        engine.dispose()


def _engine(url: str, seconds: int = CONNECT_SECONDS) -> "Engine":
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(parsed(url, seconds), poolclass=NullPool)


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
