"""Run a command in a small process and report its cost.

Linux gives a child the peak memory of the process that started it as a floor (`exec` keeps `ru_maxrss`), so the
harness, which holds libraries, cannot measure a command that is smaller than itself. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Run `sys.argv[2:]` and write exit code, wall and CPU seconds and peak memory to the file `sys.argv[1]`."""
    started = time.perf_counter()
    pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    cost = {
        "exit": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    Path(sys.argv[1]).write_text(json.dumps(cost), encoding="utf-8")


if __name__ == "__main__":
    main()
