# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of wrk's output; every fixture is what wrk 4.1.0 really printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import (
    WrkPlan,
    command,
    doubts,
    find,
    measure,
    parse,
    script,
    version,
)

FIXTURES = Path(__file__).parent / "fixtures" / "wrk"
PLAN = WrkPlan(
    "http://127.0.0.1:9100/",
    connections=2,
    duration_s=1,
    timeout_s=1,
    answer_bytes=len("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
)
COUNTED = replace(PLAN, answer_bytes=None)


def captured(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text(encoding="utf-8")


def test_a_good_run() -> None:
    run = parse(captured("ok"))
    assert run.requests > 1000
    assert set(run.errors) == {"connect", "read", "write", "timeout", "status"}
    assert not any(run.errors.values())
    assert run.requests_per_s == pytest.approx(run.requests, rel=0.2)
    fast, slow = run.latency_ms(50), run.latency_ms(99.9)
    assert fast is not None
    assert slow is not None
    assert 0 < fast < slow
    assert doubts(PLAN, run) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hangs", "no request was answered in 1 s"),
        ("tls", "no request was answered in 1 s"),
        ("resets", "no request was answered in 1 s"),
        ("late", "answers took longer than 1 s and are in no latency"),
        ("closes", "connections broke or were closed while an answer was read"),
        ("500", "answers had a status of 400 or above instead of 200"),
        ("307", "answers were not all like those before the load, of 40 bytes"),
        ("307_later", "answers were not all like those before the load, of 40"),
        ("307_counted", "answers had status 307 instead of 200"),
    ],
)
def test_a_run_that_wrk_itself_calls_a_success(name: str, said: str) -> None:
    assert said in "; ".join(doubts(PLAN, parse(captured(name))))


def test_without_an_answer_in_time_there_is_no_latency() -> None:
    assert parse(captured("hangs")).latency_ms(99) is None


def test_another_status_may_be_the_expected_one() -> None:
    plan = replace(COUNTED, expected_status=307)
    assert doubts(plan, parse(captured("307_counted"))) == []


@pytest.mark.parametrize("name", ["ok_counted", "sizes_vary"])
def test_counted_statuses_need_no_common_length(name: str) -> None:
    run = parse(captured(name))
    assert run.statuses == {200: run.requests}
    assert doubts(COUNTED, run) == []


def test_connections_that_wait_in_vain_are_noticed() -> None:
    plan = replace(PLAN, connections=4)  # two of which were never answered
    (reason,) = doubts(plan, parse(captured("some_hang")))
    assert reason.startswith("only ")
    assert "of 4 connections were busy" in reason
    assert doubts(replace(plan, keepalive=False), parse(captured("some_hang"))) == []


@pytest.mark.parametrize("out", ["", captured("refused"), "Running 1s test\n"])
def test_no_result_is_an_error(out: str) -> None:
    with pytest.raises(KeepaliveError, match="without telling"):
        parse(out)


def test_a_script_carries_any_text() -> None:
    plan = replace(PLAN, method="POST", body='{"a": "ü\\"}\n', headers={"X-A": "]]"})
    text = script(plan)
    assert 'wrk.method = "POST"' in text
    assert "\\123\\034a\\034\\058\\032\\034\\195\\188\\092\\034\\125\\010" in text
    assert 'wrk.headers["X\\045A"] = "\\093\\093"' in text
    assert "Connection" not in text
    assert "function response" not in text
    assert "function response" in script(COUNTED)
    assert "Connection" in script(replace(plan, keepalive=False))


def test_a_command_line() -> None:
    plan = replace(PLAN, cpus="1", threads=2)
    assert command(plan, "/usr/bin/wrk", "/tmp/x.lua") == [
        *("taskset", "--cpu-list", "1", "/usr/bin/wrk", "--threads", "2"),
        *("--connections", "2", "--duration", "1s", "--timeout", "1s"),
        *("--script", "/tmp/x.lua", "http://127.0.0.1:9100/"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"connections": 0}, {"threads": 3}, {"duration_s": 0}, {"timeout_s": 0}],
)
def test_a_plan_that_wrk_would_refuse(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(KeepaliveError, match="|".join(wrong)):
        replace(PLAN, **wrong)


def test_wrk_that_is_missing_is_said_with_the_fix() -> None:
    installed = {"wrk": "/usr/bin/wrk"}
    assert find(installed.get, "wrk") == "/usr/bin/wrk"
    with pytest.raises(KeepaliveError, match=r"'wrk5' was not found.*load_generator"):
        find(installed.get, "wrk5")


class Wrk:
    """A Runner that stands for wrk, and keeps the script it was given."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.result = (status, out, err)
        self.script = ""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Tuple[int, str, str]:
        assert cwd is None
        assert env is None
        words: List[str] = list(argv)
        if "--script" in words:
            self.script = Path(words[words.index("--script") + 1]).read_text()
        return self.result


def test_version() -> None:
    wrk = Wrk(1, "wrk debian/4.1.0-3+b2 [epoll] Copyright", "")
    assert version("/usr/bin/wrk", wrk) == "debian/4.1.0-3+b2"
    assert version("/usr/bin/wrk", Wrk(1, "", "")) == ""


def test_a_measurement(tmp_path: Path) -> None:
    wrk = Wrk(0, captured("ok"), "")
    assert measure(PLAN, "wrk", wrk, tmp_path) == parse(captured("ok"))
    assert wrk.script == script(PLAN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "err", "said"),
    [
        (1, "unable to connect to 127.0.0.1:9108 Connection refused\n", "refused"),
        (1, "unable to resolve no.such:http Name or service not known\n", "resolve"),
        (-9, "", "signal 9"),
        (1, "wrk: unrecognized option '--no-such'\n", "unrecognized option"),
    ],
)
def test_a_wrk_that_fails(tmp_path: Path, status: int, err: str, said: str) -> None:
    with pytest.raises(KeepaliveError, match=said):
        measure(PLAN, "wrk", Wrk(status, "", err), tmp_path)
