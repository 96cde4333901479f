# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_report import (
    bars,
    build,
    junit,
    page,
)

Event = dict[str, Any]


def at(second: int) -> str:
    return f"2026-11-28T14:30:{second:02d}.000+00:00"


def event(second: int, kind: str, **about: Any) -> Event:
    return {"at": at(second), "event": kind, **about}


def deployed(host: str, wave: int, begun: int, ended: int) -> Event:
    return event(
        ended + 5,
        "deployed",
        host=host,
        wave=wave,
        release="two",
        changed=True,
        reason="",
        begun_at=at(begun),
        ended_at=at(ended),
    )


def gate(host: str, wave: int, verdict: str, reason: str) -> Event:
    return event(
        15, "gate", host=host, wave=wave, gate="health", verdict=verdict, reason=reason
    )


BEGUN = [
    event(0, "begin", service="shop", controller="ctl", pid=1),
    *(event(1, "before", host=name, deployment="d", release="one") for name in "abc"),
    event(1, "plan", waves=[["a"], ["b", "c"]]),
]
STOPPED = [
    *BEGUN,
    deployed("a", 0, 2, 10),
    gate("a", 0, "fail", "3 of 200 requests lost <b>"),
    event(15, "judged", wave=0, verdict="fail", reasons=["a: gate health"]),
    event(
        20,
        "result",
        stopped=True,
        why=["a: gate health"],
        after={"a": "went back to one", "b": "still runs one", "c": "still runs one"},
    ),
    event(20, "end"),
]


def test_one_that_was_stopped() -> None:
    report = build("shop.1", STOPPED)
    assert (report["outcome"], report["why"]) == ("stopped", ["a: gate health"])
    assert (report["begun_at"], report["ended_at"]) == (at(0), at(20))
    first, second = report["waves"]
    assert (first["verdict"], second["verdict"]) == ("fail", "not reached")
    host = report["hosts"][0]
    assert (host["release_before"], host["release"]) == ("one", "two")
    assert host["after"] == "went back to one"
    assert host["gates"][0]["reason"] == "3 of 200 requests lost <b>"
    assert report["hosts"][2]["state"] == "not reached"


def test_one_that_passed_after_an_interruption() -> None:
    report = build(
        "shop.1",
        [
            *BEGUN,
            *BEGUN,
            event(30, "result", stopped=False, after={"a": "two"}),
            event(30, "end"),
        ],
    )
    assert (report["outcome"], report["attempts"]) == ("passed", 2)


def test_one_that_has_not_ended() -> None:
    assert build("shop.1", BEGUN)["outcome"] == "unfinished"


def test_a_journal_that_nobody_began() -> None:
    with pytest.raises(KeepaliveError, match="no rollout has begun"):
        build("shop.1", [])


def test_junit_has_a_case_for_each_host_and_gate() -> None:
    root = ET.fromstring(junit(build("shop.1", STOPPED)))
    first, second = root.findall("testsuite")
    assert (first.get("tests"), first.get("failures")) == ("2", "1")
    assert (second.get("tests"), second.get("skipped")) == ("2", "2")
    case = first.findall("testcase")[1]
    assert (case.get("classname"), case.get("name")) == ("a", "gate health")
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "3 of 200 requests lost <b>"
    assert first.findall("testcase")[0].get("time") == "8.000"


def test_bars_are_shares_of_the_whole() -> None:
    first, second, _third = bars(build("shop.1", STOPPED))
    assert first["deploy"] == (10.0, 50.0)
    assert first["judge"] == (50.0, 75.0)
    assert "deploy" not in second


def test_the_page_needs_nothing_else_and_escapes_what_hosts_say() -> None:
    text = page(build("shop.1", STOPPED))
    assert "It was stopped: a: gate health." in text
    assert "3 of 200 requests lost &lt;b&gt;" in text
    assert "<script" not in text
    assert "src=" not in text
