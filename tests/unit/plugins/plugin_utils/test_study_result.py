# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.histograms import (
    merge_histograms,
    percentiles_ms,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.paired import effect
from ansible_collections.keepalive.fastapi.tests.unit.plugins.plugin_utils import (
    benchmark_study,
)
from jsonschema import Draft202012Validator

SCHEMA = json.loads(
    (Path(__file__).parents[4] / "docs/benchmark.schema.json").read_text()
)

Study = benchmark_study.Study


def problems(result: Any) -> list[str]:
    """Return what the published schema has against a result."""
    checker = Draft202012Validator.FORMAT_CHECKER
    validator = Draft202012Validator(SCHEMA, format_checker=checker)
    return [
        "{0}: {1}".format(error.json_path, error.message)
        for error in validator.iter_errors(json.loads(json.dumps(result)))
    ]


def described(schema: Any, path: str = "") -> list[str]:
    """Return the paths of all fields that lack a description or a unit."""
    found = []
    for name, field in schema.get("properties", {}).items():
        here = "{0}/{1}".format(path, name)
        if "$ref" not in field:
            types = field.get("type", [])
            number = {"number", "integer"} & set(
                [types] if isinstance(types, str) else types
            )
            if not field.get("description") or (number and not field.get("unit")):
                found.append(here)
        found += described(field, here)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found += described(schema[name], "{0}/{1}".format(path, name))
    return found


def test_the_schema_describes_every_field_and_its_unit() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert described(SCHEMA) == []
    for name, definition in SCHEMA["$defs"].items():
        assert definition["description"], name
        assert described(definition, name) == []


def test_real_runs_fit_the_schema(study: Study) -> None:
    study.add_host("web2")
    assert problems(study.build()) == []


def test_the_schema_refuses_what_it_does_not_know(study: Study) -> None:
    result: Any = study.build()
    result["runs"][0]["requests_per_s"] = "2156.7"
    result["hosts"]["web1"]["comparisons"][0]["p_value"] = 0.01
    result["created"] = "yesterday"
    assert len(problems(result)) == 3


def test_the_effect_is_that_of_the_pairs(study: Study) -> None:
    (comparison,) = study.build()["hosts"]["web1"]["comparisons"]
    rates = {
        arm: [
            run["requests_per_s"]
            for run in sorted(study.runs, key=lambda run: run["round"])
            if run["arm"] == arm
        ]
        for arm in ("off", "on")
    }
    expected = effect(rates["off"], rates["on"])
    assert comparison["ratio"] == pytest.approx(expected.ratio, abs=1e-5)
    assert comparison["verdict"] == expected.verdict == "better"
    assert comparison["pairs"] == len(comparison["pair_ratios"]) == 8
    mean = {arm: sum(rates[arm]) / 8 for arm in rates}
    assert comparison["difference_percent"] == pytest.approx(
        (mean["on"] / mean["off"] - 1) * 100, abs=0.01
    )


def test_an_arm_sums_its_runs_up(study: Study) -> None:
    off = study.build()["hosts"]["web1"]["arms"][0]
    runs = [run for run in study.runs if run["arm"] == "off"]
    requests = sum(run["requests"] for run in runs)
    assert off["requests"] == requests
    assert off["requests_per_s"]["runs"] == [run["requests_per_s"] for run in runs]
    assert off["cpu_us_per_request"]["nginx"] == pytest.approx(
        sum(run["cpu_nginx_s"] for run in runs) / requests * 1e6, abs=0.1
    )
    merged = percentiles_ms(merge_histograms(r["latency_histogram"] for r in runs))
    assert off["latency_p99_ms"] == merged["p99"]
    assert off["latency_max_ms"] == max(run["latency_max_ms"] for run in runs)
    assert off["connections_per_request"]["client"]["nginx"] == pytest.approx(
        1, abs=0.01
    )


def test_one_run_has_the_percentiles_that_it_measured(
    study: Study,
) -> None:
    for run in study.runs:
        found = percentiles_ms(run["latency_histogram"])
        for name, value in found.items():
            measured = run["latency_{0}_ms".format(name)]
            assert value == pytest.approx(measured, rel=0.011)


def test_no_percentile_exceeds_the_highest_latency(
    study: Study,
) -> None:
    for run in study.runs:
        study.hosts = {"web1": {"conditions": {}, "runs": [run]}}
        arms = study.build()["hosts"]["web1"]["arms"]
        arm = next(arm for arm in arms if arm["runs"])
        assert arm["latency_p99_9_ms"] <= arm["latency_max_ms"]


def test_seven_pairs_are_invalid_and_have_no_figure(
    study: Study,
) -> None:
    study.hosts["web1"]["runs"] = [run for run in study.runs if run["round"] != 3]
    result = study.build()
    (comparison,) = result["hosts"]["web1"]["comparisons"]
    assert comparison["verdict"] == "invalid"
    assert comparison["reasons"] == ["7 valid pairs; at least 8 are needed"]
    assert comparison["ratio"] is comparison["low"] is comparison["high"] is None
    assert comparison["difference_percent"] is None
    assert problems(result) == []


def test_one_run_that_is_not_valid_spoils_its_comparison_only(
    study: Study,
) -> None:
    # A third arm, like the second.
    third = [{**run, "arm": "also"} for run in study.runs if run["arm"] == "on"]
    study.runs.extend(third)
    study.cases[0]["arms"].append("also")
    study.runs.append({**study.runs[-1], "round": 8})
    study.runs.append(
        {
            **{name: study.runs[2][name] for name in ("case", "position")},
            "arm": "on",
            "round": 8,
            "valid": False,
            "invalid_reasons": ["3 answers had another status", "it was too slow"],
        }
    )
    result = study.build()
    on, also = result["hosts"]["web1"]["comparisons"]
    assert (on["verdict"], also["verdict"]) == ("invalid", "better")
    assert on["reasons"] == ["3 answers had another status", "it was too slow"]
    assert result["hosts"]["web1"]["arms"][1]["valid_runs"] == 8
    assert problems(result) == []


def test_reasons_are_told_once_and_never_missing(study: Study) -> None:
    for number, run in enumerate(study.runs):
        run.update(valid=False, invalid_reasons=["{0}.5 redirects".format(number)])
    del study.runs[0]["invalid_reasons"]
    (comparison,) = study.build()["hosts"]["web1"]["comparisons"]
    assert comparison["reasons"] == [
        "the run was not measured",
        "3.5 redirects (and 14 more)",
        "0 valid pairs; at least 8 are needed",
    ]


def test_what_the_pairs_cannot_tell_is_a_reason(study: Study) -> None:
    study.confidence = 0.999
    (comparison,) = study.build()["hosts"]["web1"]["comparisons"]
    assert comparison["verdict"] == "invalid"
    assert "too few" in comparison["reasons"][0]


def test_a_run_without_figures_is_null_all_over(study: Study) -> None:
    bare = {name: study.runs[0][name] for name in ("case", "arm", "round", "position")}
    study.runs[0] = {**bare, "valid": False, "invalid_reasons": ["refused"]}
    result = study.build()
    assert result["runs"][0]["requests_per_s"] is None
    assert result["runs"][0]["reuse"] == {"client": None, "upstream": None}
    assert result["hosts"]["web1"]["arms"][0]["requests_per_s"]["mean"] is not None
    assert problems(result) == []


def test_a_host_without_runs_is_told_of(study: Study) -> None:
    study.hosts["web2"] = {"conditions": {}, "runs": []}
    result = study.build()
    (comparison,) = result["hosts"]["web2"]["comparisons"]
    assert comparison["verdict"] == "invalid"
    assert result["fleet"]["arms"][0]["hosts"] == 1
    assert problems(result) == []


def test_the_fleet_has_merged_latencies(study: Study) -> None:
    study.add_host("web2")
    result = study.build()
    one, all_hosts = result["hosts"]["web1"]["arms"][0], result["fleet"]["arms"][0]
    assert all_hosts["hosts"] == 2
    assert all_hosts["requests"] == 2 * one["requests"]
    assert all_hosts["latency_p99_ms"] == one["latency_p99_ms"]
    assert "requests_per_s" not in all_hosts


def test_witnesses_that_disagree_once_disagree(study: Study) -> None:
    study.runs[0]["reuse"]["client"]["agree"] = False
    study.runs[3]["reuse"]["upstream"].update(agree=None, kernel=None)
    study.runs[5]["reuse"] = None
    off = study.build()["hosts"]["web1"]["arms"][0]["connections_per_request"]
    assert off["client"]["agree"] is False
    assert off["upstream"]["agree"] is None
    assert off["upstream"]["kernel"] is not None


def broken(study: Study, what: str) -> None:
    """Make a study that contradicts itself."""
    if what == "twin":
        study.runs.append(study.runs[0])
    elif what == "stranger":
        study.runs[0]["arm"] = "maybe"
    elif what == "place":
        del study.runs[0]["round"]
    elif what == "base":
        study.cases[0]["base"] = "none"
    elif what == "one arm":
        study.cases[0]["arms"] = ["off"]
    elif what == "same case":
        study.cases.append(study.cases[0])
    elif what == "no case":
        study.cases = []
    elif what == "host":
        study.hosts["web2"] = []
    else:
        study.confidence = 95


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("twin", "two runs of 'async items, 100 connections', arm 'off', in round 0"),
        ("stranger", "the arm 'maybe', which cases does not name"),
        ("place", "lacks round"),
        ("base", "base 'none' is none of the arms"),
        ("one arm", "two or more different names"),
        ("same case", "named twice"),
        ("no case", "there is none"),
        ("host", "web2 must be a dictionary"),
        ("confidence", "95 is not between 0 and 1"),
    ],
)
def test_contradictions_are_refused(study: Study, what: str, says: str) -> None:
    broken(study, what)
    with pytest.raises(KeepaliveError, match=says):
        study.build()
