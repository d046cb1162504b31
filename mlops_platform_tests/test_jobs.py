"""Schedules: what they ask for at a tick."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from mlops_platform.jobs import build_monitoring_schedule


def test_monitoring_is_about_the_day_before() -> None:
    schedule = build_monitoring_schedule("0 7 * * *")
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 3, 1, 7, tzinfo=UTC))
    request = schedule(context)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-02-28"
