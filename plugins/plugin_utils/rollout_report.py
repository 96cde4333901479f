# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout's journal as a report: JSON, one HTML file, and JUnit for CI."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence
from xml.etree import ElementTree as ET

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_files import (
    page_environment,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    DEPLOYED,
    FAILED,
    INCONCLUSIVE,
    PASS,
    UNREACHABLE,
)

SCHEMA_VERSION = 1
_STATES = (DEPLOYED, FAILED, UNREACHABLE)
_TEMPLATE = "rollout.html.j2"

Event = Mapping[str, Any]


def build(rollout: str, events: Sequence[Event]) -> Dict[str, Any]:
    """Return what a journal says, host by host and wave by wave.

    ``outcome`` is ``passed``, ``stopped`` or ``unfinished``. Raises KeepaliveError for
    a journal that no rollout has begun.
    """
    begun = _last(events, "begin")
    if begun is None:
        raise KeepaliveError("journal: no rollout has begun in {0}".format(rollout))
    plan = _last(events, "plan") or {"waves": []}
    ended = _last(events, "result") or {}
    stopped = bool(ended.get("stopped"))
    outcome = "stopped" if stopped else "passed" if ended else "unfinished"
    return {
        "schema_version": SCHEMA_VERSION,
        "rollout": rollout,
        "service": begun["service"],
        "controller": begun.get("controller", ""),
        "begun_at": events[0]["at"],
        "ended_at": events[-1]["at"],
        "attempts": sum(each["event"] == "begin" for each in events),
        "outcome": outcome,
        "why": list(ended.get("why", [])),
        "waves": [
            _wave(number, hosts, events) for number, hosts in enumerate(plan["waves"])
        ],
        "hosts": [
            _host(name, number, events, ended.get("after") or {})
            for number, hosts in enumerate(plan["waves"])
            for name in hosts
        ],
    }


def _last(events: Sequence[Event], kind: str, **about: Any) -> Optional[Event]:
    found = [
        each
        for each in events
        if each["event"] == kind
        and all(each.get(key) == value for key, value in about.items())
    ]
    return found[-1] if found else None


def _wave(number: int, hosts: Sequence[str], events: Sequence[Event]) -> Dict[str, Any]:
    judged = _last(events, "judged", wave=number) or {}
    promoted = _last(events, "promoted", wave=number) or {}
    return {
        "wave": number + 1,
        "hosts": list(hosts),
        "verdict": judged.get("verdict", "not reached"),
        "reasons": judged.get("reasons", []),
        "judged_at": judged.get("at", ""),
        "promoted_at": promoted.get("at", "") if promoted.get("hosts") else "",
    }


def _host(
    name: str, wave: int, events: Sequence[Event], after: Mapping[str, str]
) -> Dict[str, Any]:
    before = next(
        (e for e in events if e["event"] == "before" and e["host"] == name), {}
    )
    known = [e for e in events if e["event"] in _STATES and e.get("host") == name]
    seen = known[-1] if known else {}
    gates = [
        {key: each[key] for key in ("gate", "verdict", "reason")}
        for each in events
        if each["event"] == "gate" and each["host"] == name
    ]
    return {
        "host": name,
        "wave": wave + 1,
        "release_before": before.get("release", ""),
        "release": seen.get("release", ""),
        "state": seen.get("event", "not reached"),
        "changed": bool(seen.get("changed")),
        "reason": seen.get("reason", ""),
        "begun_at": seen.get("begun_at", ""),
        "ended_at": seen.get("ended_at", ""),
        "gates": gates,
        "after": after.get(name, ""),
    }


def junit(report: Mapping[str, Any]) -> str:
    """Return JUnit XML: a suite for each wave, a case for each host and each gate."""
    root = ET.Element("testsuites", name="rollout of {0}".format(report["service"]))
    for wave in report["waves"]:
        name = "wave {0}".format(wave["wave"])
        suite = ET.SubElement(root, "testsuite", name=name)
        for host in report["hosts"]:
            if host["wave"] == wave["wave"]:
                _cases(suite, host)
        failed = suite.findall("testcase/failure")
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(failed)))
        suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(suite: ET.Element, host: Mapping[str, Any]) -> None:
    case = _case(suite, host["host"], "deploy", _seconds(host))
    if host["state"] == "not reached":
        ET.SubElement(case, "skipped")
    elif host["state"] != DEPLOYED:
        ET.SubElement(case, "failure", message=host["reason"] or host["state"])
    for gate in host["gates"]:
        case = _case(suite, host["host"], "gate {0}".format(gate["gate"]), 0.0)
        if gate["verdict"] == INCONCLUSIVE:
            ET.SubElement(case, "skipped", message=gate["reason"])
        elif gate["verdict"] != PASS:
            ET.SubElement(case, "failure", message=gate["reason"])


def _case(suite: ET.Element, host: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=host, name=name, time="{0:.3f}".format(seconds)
    )


def _seconds(host: Mapping[str, Any]) -> float:
    if not host["begun_at"] or not host["ended_at"]:
        return 0.0
    return (_time(host["ended_at"]) - _time(host["begun_at"])).total_seconds()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def page(report: Mapping[str, Any]) -> str:
    """Return one HTML file that needs nothing else: no script, no network."""
    template = page_environment().get_template(_TEMPLATE)
    return template.render(report=report, bars=bars(report), end_s=_length_s(report))


def _length_s(report: Mapping[str, Any]) -> float:
    begun, ended = _time(report["begun_at"]), _time(report["ended_at"])
    return max((ended - begun).total_seconds(), 1.0)


def bars(report: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return each host's bars on the timeline, in percent of its whole length.

    From its deployment's begin to its end, and from there to the wave's verdict.
    """
    begun, length_s = _time(report["begun_at"]), _length_s(report)

    def place(text: str) -> float:
        seconds = (_time(text) - begun).total_seconds()
        return round(min(max(100 * seconds / length_s, 0.0), 100.0), 2)

    found = []
    for host in report["hosts"]:
        wave = report["waves"][host["wave"] - 1]
        row = {"host": host["host"], "wave": host["wave"], "state": host["state"]}
        if host["begun_at"] and host["ended_at"]:
            row["deploy"] = (place(host["begun_at"]), place(host["ended_at"]))
            judged = wave["judged_at"] or host["ended_at"]
            row["judge"] = (place(host["ended_at"]), place(judged))
        row["verdict"] = wave["verdict"]
        found.append(row)
    return found
