"""What an asset needs before it can be materialized, and the message when it is missing.

Only preconditions that several assets share; how a message becomes a Dagster failure is in ``errors``.
"""

from mlops_platform.errors import ModelError, WarehouseError
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking, RegisteredVersion
from mlops_platform.resources.warehouse.base import Warehouse


def require_champion(tracking: MlflowTracking) -> RegisteredVersion:
    """Return the champion, or raise a `ModelError` if no version was promoted yet."""
    champion = tracking.by_alias(CHAMPION)
    if champion is None:
        raise ModelError("There is no champion yet: materialize champion_model first.")
    return champion


def require_tables(warehouse: Warehouse, *tables: str) -> None:
    """Raise a `WarehouseError` if the warehouse lacks a table of an upstream asset."""
    missing = [table for table in tables if not warehouse.has_table(table)]
    if missing:
        names = " and ".join(missing)
        raise WarehouseError(f"The warehouse has no table {names}: materialize {names} first.")
