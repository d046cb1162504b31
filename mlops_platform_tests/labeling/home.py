"""A home with a labeling queue that was not computed, and `mlops label` on it as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_platform.assets.labeling import _QUEUE_COLUMNS
from mlops_platform.resources.factory import build_resources
from mlops_platform.resources.labels.label_log import Label, read
from mlops_platform.resources.warehouse.parquet_writer import write_rows
from mlops_platform.settings import PROJECT_ROOT, Settings

MLOPS, NLP, CV, OTHER = "mlops", "natural-language-processing", "computer-vision", "other"
BIG_ID = 2**60 + 1  # more than a number of JavaScript holds

# id, title, description, reason, guess
ROWS = [
    (11, "Serving transformers on edge devices", "How we quantized a model\nand served it.", "uncertain", MLOPS),
    (12, "", "A description without a title.", "random", OTHER),
    (
        13,
        "<img src=x onerror=\"document.title='hacked'\"><b>Bold</b>",
        "<script>alert(1)</script> & more",
        "diverse",
        CV,
    ),
    (14, "Emoji 🤖🧑‍🔬 and عربى", "=1+1", "uncertain", NLP),
    (15, "A doubtful one", "It is about images.", "suspect", CV),
    (16, "W" * 300, "very long " * 900, "uncertain", NLP),
    (BIG_ID, "The last", "", "random", OTHER),
]


class LabelHome:
    """A home with a queue, its projects, and one labeled project that is suspect."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder, lock_timeout=5.0)
        self.log = self.settings.event_log_path
        self.warehouse = build_resources(self.settings)["warehouse"]
        ids = ", ".join(f"({row[0]})" for row in ROWS)
        self.warehouse.execute(f"CREATE TABLE projects AS SELECT * FROM (VALUES {ids}, (99)) AS p(id)")
        self.warehouse.execute(f"CREATE TABLE labeled_projects AS SELECT 15::BIGINT AS id, '{NLP}' AS tag")
        near = [{"id": 1, "title": f"Neighbour {n}", "tag": tag, "similarity": 0.5} for n, tag in enumerate((CV, NLP))]
        rows = [
            {
                "rank": rank,
                "id": key,
                "title": title,
                "description": text,
                "reason": reason,
                "score": 0.5,
                "guess": guess,
                "probability": 0.61,
                "neighbours": json.dumps(near),
            }
            for rank, (key, title, text, reason, guess) in enumerate(ROWS, start=1)
        ]
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "queue.parquet"
            write_rows(file, _QUEUE_COLUMNS, rows)
            self.warehouse.replace_rows("labeling_queue", file, {})

    def labels(self) -> list[tuple[int, str, str]]:
        """What the log holds: id, tag, person."""
        return [(each.id, each.tag, each.labeled_by) for each in self.entries()]

    def entries(self) -> tuple[Label, ...]:
        """What the log holds."""
        return read(self.log).labels


class Server:
    """A running `mlops label`."""

    def __init__(self, process: subprocess.Popen[str], port: int, said: str) -> None:
        self.process, self.port = process, port
        found = re.search(r"http://127\.0\.0\.1:\d+/#(\S+)", said)
        assert found, said
        self.address, self.token = found[0], found[1]

    def kill(self) -> None:
        """SIGKILL, as nobody would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(home: LabelHome, person: str = "ann", port: int | None = None) -> Iterator[Server]:
    """Run `mlops label --no-browser` in a process of its own."""
    port = port or free_port()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_platform.cli.main", "label", "--no-browser", "--port", str(port), "--as", person],
        cwd=PROJECT_ROOT,
        env={**clean, "MLOPS_HOME": str(home.settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        for _ in range(600):
            with socket.socket() as probe:
                probe.settimeout(0.1)
                if process.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            process.poll()

            time.sleep(0.05)
        yield Server(process, port, said)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
