"""Postgres, where Dagster's storage and Optuna's studies live in production: reaching it, and holding a lock in it.

A database address holds a password: nothing here prints one.
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
    """Whether a storage address is Postgres's."""
    return url.startswith("postgres")


def parsed(url: str, seconds: int = CONNECT_SECONDS) -> "URL":
    """Read an address, with a bound on the wait for its server.

    Args:
        url: postgresql+psycopg2://user:password@host:port/database.
        seconds: The bound, unless the address has its own.

    Raises:
        PlatformError: It is no such address.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        made = make_url(url)
        if made.drivername != "postgresql+psycopg2":
            raise ArgumentError
    except (ArgumentError, ValueError):
        # what they say may quote a part of the password
        raise PlatformError(
            "MLOPS_POSTGRES_URL is no address of the form postgresql://user:password@host:port/database: mend it, "
            "and write signs such as @ or / in the password as %40 or %2F."
        ) from None
    return made if "connect_timeout" in made.query else made.update_query_dict({"connect_timeout": str(seconds)})


def shown(url: str) -> str:
    """An address without its password; an SQLite one as it is."""
    return parsed(url).set(query={}).render_as_string(hide_password=True) if is_postgres(url) else url


def require_postgres(url: str, *, create_schema: str | None = None, seconds: int = CONNECT_SECONDS) -> None:
    """See that the server answers and lets the user in.

    Args:
        url: Its address.
        create_schema: A schema that is made where it is missing.
        seconds: How long to wait for each address of the host.

    Raises:
        PlatformError: It doesn't.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(url, seconds)
    try:
        with engine.begin() as connection:
            connection.execute(text("select 1"))
            if create_schema:
                # two processes that make it at once would trip over each other
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _key(create_schema)})
                connection.execute(text(f'create schema if not exists "{create_schema}"'))
    except SQLAlchemyError as error:
        raise unreachable(url, error) from None
    finally:
        engine.dispose()


def unreachable(url: str, error: Exception) -> PlatformError:
    """The sentence for a server that does not answer.

    Args:
        url: Its address.
        error: What the driver said.
    """
    # the text has the statement and a link on further lines; of one sentence the first line is enough
    said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return PlatformError(
        f"Postgres at {shown(url)} cannot be used ({said[0]}): start it, or set MLOPS_POSTGRES_URL to its address."
    )


@contextmanager
def advisory_lock(url: str, name: str) -> Iterator[None]:
    """Hold a lock that all clients of the database respect; the server releases it when this process dies.

    Args:
        url: Address of the server.
        name: What is locked.

    Yields:
        Once the lock is held, however long others hold it.

    Raises:
        PlatformError: The server can't be reached.
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
