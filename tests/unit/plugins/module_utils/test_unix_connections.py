# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from ansible_collections.keepalive.fastapi.plugins.module_utils import unix_connections
from hypothesis import given
from hypothesis import strategies as st

count = unix_connections.count_connections

# Linux 6.18, a host whose nginx holds one connection to the blue slot.
CAPTURED = (Path(__file__).parent / "fixtures/proc_net_unix.txt").read_text()
HEADER = "Num       RefCount Protocol Flags    Type St Inode Path\n"
LISTENER = "00000000dcad1f2f: 00000002 00000000 00010000 0001 01 91671 {0}\n"
CONNECTED = "000000006eaa31a6: 00000003 00000000 00000000 0001 03 182406 {0}\n"
CLIENT = "00000000c97a1925: 00000003 00000000 00000000 0001 03 94564\n"


def test_a_connection_is_counted_and_its_listener_is_not() -> None:
    assert count(CAPTURED, "/run/demo/blue.sock") == 1
    assert count(CAPTURED, "/run/systemd/private") == 0
    assert count(CAPTURED, "/run/demo/green.sock") == 0


def test_another_path_is_another_listener() -> None:
    for path in ("/run/demo/blue.sock2", "/x/run/demo/blue.sock", "/run/demo"):
        assert count(HEADER + CONNECTED.format(path), "/run/demo/blue.sock") == 0


def test_a_path_may_hold_blanks() -> None:
    path = "/run/my demo/blue.sock"
    assert count(HEADER + CONNECTED.format(path), path) == 1


@given(st.lists(st.sampled_from(["mine", "other", "listener", "client"])))
def test_every_connection_to_the_path_is_counted(kinds: list[str]) -> None:
    lines = {
        "mine": CONNECTED.format("/run/a/blue.sock"),
        "other": CONNECTED.format("/run/a/green.sock"),
        "listener": LISTENER.format("/run/a/blue.sock"),
        "client": CLIENT,
    }
    text = HEADER + "".join(lines[kind] for kind in kinds)
    assert count(text, "/run/a/blue.sock") == kinds.count("mine")


def test_listeners_are_found_by_path() -> None:
    found = unix_connections.listening_inodes(CAPTURED)
    assert found["/run/demo/blue.sock"] == [91671]
    assert "/run/systemd/notify" not in found
