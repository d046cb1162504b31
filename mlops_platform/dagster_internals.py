"""The names of Dagster that are not public and that we cannot do without, each with the reason.

Import them from here, so that an upgrade of Dagster has one file to check. Do not add a name for which `dagster`
itself has an equivalent.
"""

# The states that `DagsterInstance.get_freshness_state_records` returns: the method is public, its enum is not yet.
from dagster._core.definitions.freshness import FreshnessState

# A run whose steps execute in other processes, event by event. The public `dg.execute_job` reports nothing until the
# run has ended; it would do if it took a callback.
from dagster._core.execution.api import execute_run_iterator

__all__ = ["FreshnessState", "execute_run_iterator"]
