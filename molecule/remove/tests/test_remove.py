"""A removed service leaves no trace and the others serving."""

from __future__ import annotations

import pytest

from conftest import Host, Script, Slots


def test_nothing_of_it_is_left(host: Host) -> None:
    left = host.check_output(
        "find /etc /run /srv /usr/local -path /run/systemd -prune "
        "-o -name '*beta*' -not -name keepalive-beta.lock -print"
    )
    assert left == ""
    assert not host.user("beta").exists
    assert "beta@" not in host.check_output("systemctl list-units --all --plain")


def test_its_name_is_unknown_now(script: Script) -> None:
    with pytest.raises(AssertionError, match="RemoteDisconnected"):
        script("get.py", host="beta.test", path="/health")


def test_the_other_service_serves(script: Script, slots: Slots) -> None:
    assert script("get.py", host="alpha.test", path="/health")["status"] == 200
    assert slots("alpha")[slots("alpha")["live"]] == "active"
