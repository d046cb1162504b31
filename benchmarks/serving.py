"""`python -m benchmarks.serving`: the service under load while the champion changes every second.

It registers two small versions in a temporary home, starts `mlops serve` on it, lets clients send requests for some
seconds, and counts requests, failures, predictions missing in the log, requests a second, p50 and p99.
Clients are threads of this process and share the machine's cores with the service.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.service_load import Load, count, served
from mlops_platform.resources.factory import build_resources
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking
from mlops_platform.settings import SAMPLE_DIR, Settings


def make_versions(home: Path) -> tuple[MlflowTracking, list[str]]:
    """Train and register two versions on the sample, with the default parameters and with a stronger penalty.

    Args:
        home: An empty home.

    Returns:
        The registry, and the titles of the sample.
    """
    from mlops_platform.ml.classifier import text_classifier

    tracking: MlflowTracking = build_resources(Settings(_env_file=None, home=home))["tracking"]
    with (SAMPLE_DIR / "tags.csv").open(encoding="utf-8", newline="") as file:
        tags = {row["id"]: row["tag"] for row in csv.DictReader(file)}
    with (SAMPLE_DIR / "projects.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] in tags]
    texts = text_classifier.frame([row["title"] for row in rows], [row["description"] for row in rows])
    experiment = tracking.experiment("baselines")
    for number in (1, 2):
        tracking.register(
            text_classifier.fit(texts, [tags[row["id"]] for row in rows], text_classifier.Params(alpha=float(number))),
            texts.head(2),
            experiment_id=experiment,
            run_name="benchmark",
            params={},
            metrics={},
            tags={"fingerprint": f"benchmark-{number}", "data_version": "sample", "dagster_run_id": ""},
            artifacts={},
            trusted_types=list(text_classifier.TRUSTED_TYPES),
        )
    tracking.set_alias(CHAMPION, "1", {})
    return tracking, [row["title"] for row in rows]


def main() -> None:
    """Measure and print; leave with 1 if a request failed or a line is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="how long, with a promotion each second")
    parser.add_argument("--clients", type=int, default=4, help="concurrent clients")
    parser.add_argument("--workers", type=int, default=2, help="processes of the service")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-bench-serving-") as name:
        home = Path(name)
        tracking, titles = make_versions(home)
        bodies = [{"title": title} for title in titles]
        with served(home, "--workers", str(options.workers)) as service:
            load, begun = Load(service.url, options.clients, bodies), time.perf_counter()
            for second in range(options.seconds):
                tracking.set_alias(CHAMPION, "2" if second % 2 == 0 else "1", {})
                time.sleep(max(0.0, begun + second + 1 - time.perf_counter()))
            answers = load.stop()
            took = time.perf_counter() - begun
            service.stop()
        log = count(home, answers.told)
    if len(answers.seconds) < 2:
        raise SystemExit(f"No figures: {answers.failures[:1] or 'too few answers'}.")
    cuts = statistics.quantiles(answers.seconds, n=100, method="inclusive")
    print(f"{options.clients} clients, {options.workers} workers, {took:.1f} s, {options.seconds} promotions")
    requests = len(answers.seconds) + len(answers.failures)
    print(f"requests      {requests:,}, versions {', '.join(sorted(set(answers.versions)))}")
    print(f"failed        {len(answers.failures)}")
    print(f"log lines     {log.events:,} for {len(answers.told):,} predictions; lost {log.lost}, doubled {log.doubled}")
    print(f"requests/s    {len(answers.seconds) / took:.0f}")
    print(f"p50, p99      {cuts[49] * 1000:.1f} ms, {cuts[98] * 1000:.1f} ms")
    if answers.failures or log.lost or log.doubled:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
