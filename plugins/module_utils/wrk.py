# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of wrk: its command line and script, what it printed, and what to believe.

wrk 4 exits with 0 and prints no error when the server never answers, counts a
redirect as an answer, and drops late answers from its latencies. Its own Lua
interface tells the whole latency distribution and, where asked, the status of
every answer (SCRIPTING in its repository), so a script has them printed, and
``doubts`` names what makes a run no measurement.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_letters, digits
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.latencies import (
    percentile_us,
    without_correction,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

_PLAIN = frozenset((ascii_letters + digits).encode("ascii"))
_MARK = "keepalive.fastapi "
# A thread holds its share of the connections, rounded down.
_LUA = """
local threads = {{}}
wrk.method = {method}
wrk.body = {body}
{headers}
function setup(thread) table.insert(threads, thread) end
{count}
function done(summary, latency, requests)
  local all, pairs_ = {{}}, {{}}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses") or {{}}) do
      all[status] = (all[status] or 0) + count
    end
  end
  for status, count in pairs(all) do
    table.insert(pairs_, string.format('"%d":%d', status, count))
  end
  local e = summary.errors
  io.write(string.format(
    '\\n{mark}{{"duration_us":%.0f,"requests":%.0f,"bytes":%.0f,' ..
    '"connect":%.0f,"read":%.0f,"write":%.0f,"timeout":%.0f,"status":%.0f,' ..
    '"statuses":{{%s}},"latency":[',
    summary.duration, summary.requests, summary.bytes,
    e.connect, e.read, e.write, e.timeout, e.status, table.concat(pairs_, ",")))
  for i = 1, #latency do
    local value, count = latency(i)
    io.write(string.format(i == 1 and "[%.0f,%.0f]" or ",[%.0f,%.0f]", value, count))
  end
  io.write("]}}\\n")
end
"""
# Costs wrk about 2 microseconds of CPU for each answer, whose headers and body it
# then hands to Lua.
_COUNT = """
function init(args) statuses = {} end
function response(status) statuses[status] = (statuses[status] or 0) + 1 end
"""
# wrk itself counts these alone (response_complete in its wrk.c).
_FAILED = 400


@dataclass(frozen=True)
class WrkPlan:
    """What one run shall do.

    ``cpus`` is a list as taskset(1) takes it. ``answer_bytes`` is how long every
    answer is, head and body, if they all are alike; otherwise wrk is made to
    count the statuses.
    """

    url: str
    expected_status: int = 200
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    connections: int = 100
    threads: int = 1
    duration_s: int = 10
    timeout_s: int = 10
    keepalive: bool = True
    cpus: str = ""
    answer_bytes: Optional[int] = None

    @property
    def all_headers(self) -> Dict[str, str]:
        """Return the headers that every request has."""
        close = {} if self.keepalive else {"Connection": "close"}
        return {**self.headers, **close}

    def __post_init__(self) -> None:
        if self.threads < 1 or self.connections < self.threads:
            raise KeepaliveError(
                "connections is {0} and threads is {1}; wrk needs at least one "
                "connection a thread".format(self.connections, self.threads)
            )
        for name in ("duration_s", "timeout_s"):
            if getattr(self, name) < 1:
                raise KeepaliveError(
                    "{0} is {1}; it must be at least 1 second".format(
                        name, getattr(self, name)
                    )
                )


@dataclass(frozen=True)
class WrkRun:
    """What one run measured. Latencies begin when a request is written.

    ``errors`` has how often each kind was seen; ``status`` are answers of 400 and
    above. ``statuses`` is empty where wrk was not made to count them.
    ``latency_counts`` maps whole microseconds to how often they were seen, after
    wrk's own correction for coordinated omission by the mean interval between
    the requests of a connection (``stats_correct`` in its stats.c).
    """

    duration_us: int
    requests: int
    bytes_read: int
    errors: Mapping[str, int]
    statuses: Mapping[int, int]
    latency_counts: Mapping[int, int]

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.duration_us * 1e6 if self.duration_us else 0.0

    def latency_ms(self, percent: float) -> Optional[float]:
        """Return a percentile; None when no answer was in time."""
        if not self.latency_counts:
            return None
        return round(percentile_us(self.latency_counts, percent) / 1000, 3)


def script(plan: WrkPlan) -> str:
    """Return the Lua script that makes wrk send what is asked, and print all."""
    lines = [
        "wrk.headers[{0}] = {1}".format(_lua(name), _lua(value))
        for name, value in plan.all_headers.items()
    ]
    return _LUA.format(
        method=_lua(plan.method),
        body=_lua(plan.body) if plan.body else "nil",
        headers="\n".join(lines),
        count=_COUNT if plan.answer_bytes is None else "",
        mark=_MARK,
    )


def _lua(text: str) -> str:
    """Quote any text as a Lua string, byte by byte where it is not plain."""
    quoted = "".join(
        chr(byte) if byte in _PLAIN else "\\{0:03d}".format(byte)
        for byte in text.encode("utf-8")
    )
    return '"{0}"'.format(quoted)


def command(plan: WrkPlan, wrk: str, script_path: str) -> List[str]:
    """Return the argument list of the run."""
    pinned = ["taskset", "--cpu-list", plan.cpus] if plan.cpus else []
    return [
        *pinned,
        wrk,
        "--threads",
        str(plan.threads),
        "--connections",
        str(plan.connections),
        "--duration",
        "{0}s".format(plan.duration_s),
        "--timeout",
        "{0}s".format(plan.timeout_s),
        "--script",
        script_path,
        plan.url,
    ]


def parse(out: str) -> WrkRun:
    """Return the run that wrk printed. Raises KeepaliveError if it printed none."""
    line = next(
        (each for each in out.splitlines() if each.startswith(_MARK)), ""
    ).partition(_MARK)[2]
    try:
        told = json.loads(line)
    except ValueError:
        raise KeepaliveError(
            "wrk ended without telling what it measured. Its output was:\n{0}".format(
                out.strip() or "(nothing)"
            )
        ) from None
    counts: Dict[int, int] = {}
    for value, count in told["latency"]:
        counts[value] = counts.get(value, 0) + count
    return WrkRun(
        duration_us=told["duration_us"],
        requests=told["requests"],
        bytes_read=told["bytes"],
        errors={
            key: told[key] for key in ("connect", "read", "write", "timeout", "status")
        },
        statuses={int(status): told["statuses"][status] for status in told["statuses"]},
        latency_counts=counts,
    )


def find(lookup: Callable[[str], Optional[str]], name: str) -> str:
    """Return the path of wrk. Raises KeepaliveError if this host has none."""
    path = lookup(name)
    if not path:
        raise KeepaliveError(
            "wrk: {0!r} was not found; the role keepalive.fastapi.load_generator "
            "installs it, or name its path".format(name)
        )
    return path


def version(wrk: str, run: Runner) -> str:
    """Return the version that wrk tells of itself; empty if it tells none."""
    out = run([wrk, "--version"])[1]
    found = re.match(r"wrk (\S+)", out)
    return found.group(1) if found else ""


def doubts(plan: WrkPlan, run: WrkRun) -> List[str]:
    """Return why a run is no measurement of what was asked; empty if it is one."""
    reasons = []
    if run.requests == 0:
        reasons.append("no request was answered in {0} s".format(plan.duration_s))
    reasons.extend(_other_answers(plan, run))
    for kind, what in _ERRORS:
        if run.errors[kind]:
            reasons.append(what.format(run.errors[kind], plan.timeout_s))
    reasons.extend(_stuck(plan, run))
    return reasons


def _other_answers(plan: WrkPlan, run: WrkRun) -> List[str]:
    """Find answers that are not those asked for."""
    if run.statuses:
        return [
            "{0} answers had status {1} instead of {2}".format(
                count, status, plan.expected_status
            )
            for status, count in sorted(run.statuses.items())
            if status != plan.expected_status
        ]
    if run.errors["status"] and plan.expected_status < _FAILED:
        return [
            "{0} answers had a status of 400 or above instead of {1}".format(
                run.errors["status"], plan.expected_status
            )
        ]
    # What was being read when the time was up is counted by bytes alone.
    most = plan.connections * (plan.answer_bytes or 0)
    more = run.bytes_read - run.requests * (plan.answer_bytes or 0)
    if plan.answer_bytes is None or 0 <= more <= most:
        return []
    return [
        "answers were not all like those before the load, of {2} bytes: {0} had {1} "
        "bytes together; set every_status to learn their statuses".format(
            run.requests, run.bytes_read, plan.answer_bytes
        )
    ]


_ERRORS: Tuple[Tuple[str, str], ...] = (
    ("connect", "{0} connections could not be opened"),
    ("read", "{0} connections broke or were closed while an answer was read"),
    ("write", "{0} requests could not be written"),
    ("timeout", "{0} answers took longer than {1} s and are in no latency"),
)


def _stuck(plan: WrkPlan, run: WrkRun) -> List[str]:
    """Find connections that wait for an answer that does not come.

    wrk tells nothing of a request that is never answered. By Little's law the
    connections in use are the rate times the mean time of an answer; a
    connection that is opened for each request spends time outside of it.
    """
    answers_each = run.requests // plan.connections
    if not plan.keepalive or not answers_each:
        return []
    counts = without_correction(run.latency_counts, run.duration_us // answers_each)
    busy = sum(value * count for value, count in counts.items()) / run.duration_us
    opened = plan.connections // plan.threads * plan.threads
    if busy >= 0.8 * opened:
        return []
    return [
        "only {0:.1f} of {1} connections were busy; the others waited for an answer "
        "that did not come, or the generator was starved".format(busy, opened)
    ]


def measure(plan: WrkPlan, wrk: str, run: Runner, scratch_dir: Path) -> WrkRun:
    """Run wrk once. Raises KeepaliveError when it could not measure at all."""
    handle, script_path = tempfile.mkstemp(".lua", "wrk_", scratch_dir)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(script(plan))
        status, out, err = run(command(plan, wrk, script_path))
    finally:
        os.unlink(script_path)
    if status != 0:
        ended = (
            "signal {0}".format(-status) if status < 0 else "status {0}".format(status)
        )
        raise KeepaliveError(
            "wrk ended with {0}: {1}".format(ended, err.strip() or "it said nothing")
        )
    return parse(out)
