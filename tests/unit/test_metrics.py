"""What a scrape of the node's metrics reads."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine.observe import Metrics


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def test_counters_and_gauges() -> None:
    metrics = Metrics()
    for channel in ("lab", "lab", 'w"ard\\'):
        metrics.counter("meridian_received_total", "messages", channel=channel).inc()
    metrics.gauge("meridian_open", "connections").set(3)
    assert scraped(metrics) == {
        ("meridian_received_total", (("channel", "lab"),)): 2,
        ("meridian_received_total", (("channel", 'w"ard\\'),)): 1,
        ("meridian_open", ()): 3,
    }


def test_a_histogram_counts_what_is_at_most_its_bound() -> None:
    metrics = Metrics()
    child = metrics.histogram("meridian_seconds", "time", channel="lab")
    for seconds in (0.0001, 0.0005, 0.3, 11):
        child.observe(seconds)
    read = scraped(metrics)
    lab = ("channel", "lab")
    assert [read["meridian_seconds_bucket", (lab, ("le", bound))] for bound in ("0.0005", "0.16", "0.32", "10.0", "+Inf")] == [
        2,
        2,
        3,
        3,
        4,
    ]
    assert read["meridian_seconds_count", (lab,)] == 4
    assert read["meridian_seconds_sum", (lab,)] == pytest.approx(11.3006)


def test_a_family_can_be_cleared() -> None:
    metrics = Metrics()
    metrics.gauge("meridian_days", "left", file="a").set(1)
    metrics.clear("meridian_days")
    metrics.gauge("meridian_days", "left", file="b").set(2)
    assert scraped(metrics) == {("meridian_days", (("file", "b"),)): 2}


def test_labels_are_the_same_each_time() -> None:
    metrics = Metrics()
    metrics.counter("meridian_x_total", "x", channel="a")
    with pytest.raises(ValueError, match="channel"):
        metrics.counter("meridian_x_total", "x", line="a")
