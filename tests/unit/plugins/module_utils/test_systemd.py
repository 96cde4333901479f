# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Callable, Optional

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import (
    Systemd,
    parse_timespan_s,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.command import (  # noqa: E501
    Command,
)

# systemd 257: `systemctl show` answers in its own order, and without an error
# for a unit it does not know.
SHOWN = "Result=success\nNRestarts=0\nLoadState=loaded\nActiveState=active\n"
UNKNOWN = "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n"
CURSOR = (
    "s=ba66efc2cf3b486ba5920b3eb4e0941c;i=d9;b=0ed8f92f5db04549ac5d725d113e56b8;"
    "m=d1283e30;t=660e1cc04eb4f;x=ccbf451a007441dc"
)


def test_properties_are_found_by_name() -> None:
    command = Command(out=SHOWN)
    shown = Systemd(command).show("a@blue.service", "ActiveState", "Result", "Nope")
    assert shown == {"ActiveState": "active", "Result": "success", "Nope": ""}
    assert command.asked[0][-2:] == ["--", "a@blue.service"]


def test_a_value_may_hold_an_equals_sign() -> None:
    command = Command(out="Environment=A=1 B=2\n")
    shown = Systemd(command).show("a.service", "Environment")
    assert shown == {"Environment": "A=1 B=2"}


@pytest.mark.parametrize(
    ("out", "active"),
    [
        (SHOWN, True),
        (UNKNOWN, False),
        ("ActiveState=activating\n", False),
        ("ActiveState=failed\n", False),
    ],
)
def test_only_active_is_active(out: str, active: bool) -> None:
    assert Systemd(Command(out=out)).is_active("a.service") is active


@pytest.mark.parametrize(
    ("state", "enabled"),
    [("enabled", True), ("disabled", False), ("enabled-runtime", False), ("", False)],
)
def test_only_enabled_outlives_a_reboot(state: str, enabled: bool) -> None:
    command = Command(out="UnitFileState={0}\n".format(state))
    assert Systemd(command).is_enabled("a.service") is enabled


def test_an_action_names_its_units_and_options() -> None:
    command = Command()
    Systemd(command).act("start", ["a.socket", "a.service"], "--no-block")
    assert command.asked == [
        ["systemctl", "--quiet", "start", "--no-block", "--", "a.socket", "a.service"]
    ]


def test_a_failed_action_says_what_systemd_said() -> None:
    systemd = Systemd(Command(1, err="Failed to start a.socket: File exists\n"))
    with pytest.raises(KeepaliveError, match=r"cannot start a\.socket") as caught:
        systemd.act("start", ["a.socket"])
    assert "File exists" in str(caught.value)


@pytest.mark.parametrize("ask", [Systemd.reload_units, lambda s: s.show("a", "b")])
def test_a_silent_failure_gives_its_status(ask: Callable[[Systemd], object]) -> None:
    with pytest.raises(KeepaliveError, match="exit status 4, no output"):
        ask(Systemd(Command(4)))


def test_a_unit_never_loaded_has_no_failures_to_forget() -> None:
    command = Command(1, err="Unit a.service not loaded.")
    Systemd(command).forget_failures(["a.service"])
    assert command.asked == [
        ["systemctl", "--quiet", "reset-failed", "--", "a.service"]
    ]


def test_the_journal_is_read_from_a_cursor_on() -> None:
    assert (
        Systemd(Command(out="-- cursor: " + CURSOR + "\n")).journal_cursor() == CURSOR
    )
    command = Command(out="".join("line {0}\n".format(n) for n in range(40)))
    text = Systemd(command).journal_since("a.service", CURSOR)
    assert text.splitlines() == ["line {0}".format(n) for n in range(10, 40)]
    assert "--after-cursor=" + CURSOR in command.asked[0]


def test_a_journal_that_cannot_be_read_is_no_error() -> None:
    command = Command(1, err="No journal files were opened.")
    assert Systemd(command).journal_cursor() == ""
    assert Systemd(command).journal_since("a.service", "") == ""
    assert not any(word.startswith("--after-cursor") for word in command.asked[1])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s", 90),
        ("5s", 5),
        ("500ms", 0),
        ("2h 1min", 7260),
        ("infinity", None),
        ("", None),
    ],
)
def test_a_timespan_is_read_as_systemd_prints_it(
    text: str, seconds: Optional[int]
) -> None:
    assert parse_timespan_s(text) == seconds
