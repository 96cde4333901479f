"""A short benchmark on two hosts: what was measured, reported and left behind."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from conftest import ROOT, Host

ONLY_HOSTS = ["d12", "n130"]
pytestmark = pytest.mark.on_hosts(*ONLY_HOSTS)
REPORTS = ROOT / ".cache/benchmark"
SCHEMA = ROOT / "docs/benchmark.schema.json"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return dict(json.loads((REPORTS / "benchmark.json").read_text()))


@pytest.fixture(scope="module")
def runs(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [run for run in report["runs"] if run["host"] == name]


def test_the_report_is_of_its_published_form(report: dict[str, Any]) -> None:
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert set(report["hosts"]) == set(ONLY_HOSTS)


def test_arms_took_turns(runs: list[dict[str, Any]]) -> None:
    assert [run["arm"] for run in runs] == ["off", "on", "on", "off"] * 4


def test_every_run_is_valid_and_both_witnesses_agree(
    runs: list[dict[str, Any]],
) -> None:
    for run in runs:
        assert run["valid"], run["invalid_reasons"]
        hop = run["reuse"]["upstream"]
        assert hop["agree"]
        if run["arm"] == "off":
            assert hop["nginx"] == pytest.approx(1, abs=0.01)
        else:
            # But for the pool of 20, filled once.
            assert hop["nginx"] * run["requests"] <= 0.002 * run["requests"] + 20


def test_the_verdict_follows_from_the_interval(
    report: dict[str, Any], name: str
) -> None:
    (found,) = report["hosts"][name]["comparisons"]
    low, high = found["low"], found["high"]
    wanted = "better" if low > 1.01 else "worse" if high < 0.99 else "inconclusive"
    assert found["verdict"] == wanted
    assert found["pairs"] == 8


def test_hosts_are_merged_by_their_histograms(report: dict[str, Any]) -> None:
    arms = report["fleet"]["arms"]
    assert {each["arm"] for each in arms} == {"off", "on"}
    for each in arms:
        assert each["hosts"] == len(ONLY_HOSTS)
        assert each["runs"] == 8 * len(ONLY_HOSTS)
        assert 0 < each["latency_p50_ms"] <= each["latency_p99_ms"]


@pytest.mark.parametrize("form", ["md", "html"])
def test_other_forms(form: str) -> None:
    text = (REPORTS / f"benchmark.{form}").read_text()
    assert "async items, 20 connections" in text
    assert "<script" not in text


def test_nothing_is_left_on_the_host(host: Host) -> None:
    units = "systemctl list-units --all --no-legend 'keepalive-benchmark*'"
    assert not host.check_output(units)
    assert not host.file("/var/cache/keepalive-benchmark").exists
    assert not host.check_output("grep -rl 187[0-9][0-9] /etc/nginx || true")


def test_the_nginx_that_serves_is_what_it_was(host: Host) -> None:
    before = host.file("/run/nginx-before").content_string.split()
    assert host.check_output("pgrep -x nginx").split() == before
