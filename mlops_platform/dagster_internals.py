"""The one name of Dagster that is not public and that we cannot do without, with the reason.

Import it from here, so that an upgrade of Dagster has one file to check. Do not add a name for which `dagster` itself
has an equivalent.
"""

# A run whose steps execute in other processes, event by event. The public `dg.execute_job` reports nothing until the
# run has ended; it would do if it took a callback.
from dagster._core.execution.api import execute_run_iterator

__all__ = ["execute_run_iterator"]
