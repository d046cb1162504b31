"""Real ticks of the sensor `alerts` on a real instance: runs, checks, freshness and decisions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from pydantic import SecretStr

from mlops_platform.errors import PlatformError
from mlops_platform.resources.notifier import Notifier
from mlops_platform.sensors.alerts import build_alert_sensor

STATE: dict[str, Any] = {}


@dg.asset(
    owners=["team:data"],
    check_specs=[dg.AssetCheckSpec("fits", asset="raw")],
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1)),
)
def raw() -> Iterator[Any]:
    if STATE.get("raises"):
        raise ValueError
    yield dg.MaterializeResult()
    yield dg.AssetCheckResult(passed=not STATE.get("bad"), severity=dg.AssetCheckSeverity.WARN, description="3 rows.")


@dg.asset(owners=["team:ml"])
def retraining_decision() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"decision": STATE["decision"], "reason": "It drifts."})


class Recorder(Notifier):
    """Records messages in place of the network; test_notify tests the sending."""

    def send(self, owners: Any, title: str, text: str) -> None:
        assert title == "mlops_platform"
        if STATE.get("down"):
            raise PlatformError("An alert could not be sent by json.")
        STATE.setdefault("sent", []).append((tuple(owners), text))


class Watched:
    """A graph whose sensor ticks on demand."""

    def __init__(self, instance: dg.DagsterInstance, threshold: int) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.sensor = build_alert_sensor(Recorder(SecretStr("")), threshold)
        self.defs = dg.Definitions(assets=[raw, retraining_decision], sensors=[self.sensor])

    def run(self, asset: Any = raw, **state: Any) -> None:
        STATE.update({"raises": False, "bad": False} | state)
        dg.materialize([asset], instance=self.instance, raise_on_error=False)

    def tick(self) -> list[tuple[tuple[str, ...], str]]:
        """Return what a tick sends."""
        STATE["sent"] = []
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.defs.get_repository_def()
        ) as context:
            data = self.sensor.evaluate_tick(context)
            assert not data.run_requests
            self.cursor = data.cursor
        sent: list[tuple[tuple[str, ...], str]] = STATE["sent"]
        return sent


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    STATE.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(instance, getattr(request, "param", 1))


def test_a_failed_check_that_fails_no_run_is_reported_once_and_when_it_is_resolved(watched: Watched) -> None:
    watched.run()
    assert watched.tick() == []
    watched.run(bad=True)
    alert = (("team:data",), "Check raw: fits failed (warn). 3 rows.")
    assert watched.tick() == [alert]
    assert watched.tick() == []
    watched.run(bad=True)
    assert watched.tick() == []
    watched.run()
    assert watched.tick() == [(alert[0], f"Resolved: {alert[1]}")]
    watched.run(bad=True)
    assert watched.tick() == [alert]


def test_failed_runs_are_reported_to_their_owners(watched: Watched) -> None:
    watched.run(raises=True)  # before the first tick: history, not news
    watched.tick()
    watched.run(raises=True)
    ((owners, text),) = watched.tick()
    assert owners == ("team:data", "team:ml")
    assert text.endswith("failed.")
    watched.run(raises=True)
    assert watched.tick() == []
    watched.run()
    ((_, text),) = watched.tick()
    assert text.startswith("Resolved: Run ")


@pytest.mark.parametrize("watched", [3], indirect=True)
def test_a_threshold_waits_for_failures_in_a_row(watched: Watched) -> None:
    watched.tick()
    for _ in range(2):
        watched.run(bad=True)
        assert watched.tick() == []
        assert watched.tick() == []
    watched.run(bad=True)
    assert [text for _, text in watched.tick()] == ["Check raw: fits failed (warn). 3 rows. (3 times in a row)"]


def test_what_could_not_be_sent_is_sent_later(watched: Watched) -> None:
    watched.run(bad=True)
    STATE["down"] = True
    assert watched.tick() == []
    STATE["down"] = False
    assert len(watched.tick()) == 1
    assert watched.tick() == []


def test_each_kind_of_decision_is_reported_once(watched: Watched) -> None:
    for decision, expected in (
        ("continue", []),
        ("improve", ["Decision improve: It drifts."]),
        ("improve", []),
        ("inspect", ["Resolved: Decision improve: It drifts.", "Decision inspect: It drifts."]),
        ("continue", ["Resolved: Decision inspect: It drifts."]),
    ):
        watched.run(retraining_decision, decision=decision)
        assert [text for _, text in watched.tick()] == expected


def test_a_stale_asset_is_reported_once_and_when_it_is_resolved(watched: Watched) -> None:
    def enter(state: FreshnessState) -> None:  # what Dagster's freshness daemon stores
        change = FreshnessStateChange(
            key=raw.key, new_state=state, previous_state=FreshnessState.UNKNOWN, state_change_timestamp=time.time()
        )
        watched.instance.report_runless_asset_event(change)

    enter(FreshnessState.PASS)
    assert watched.tick() == []
    enter(FreshnessState.FAIL)
    alert = (("team:data",), "Asset raw is stale: it was not materialized within its freshness window.")
    assert watched.tick() == [alert]
    assert watched.tick() == []
    enter(FreshnessState.PASS)
    assert watched.tick() == [(alert[0], f"Resolved: {alert[1]}")]
