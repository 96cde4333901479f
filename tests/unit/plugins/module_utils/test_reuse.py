# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from pathlib import Path
from typing import FrozenSet, List, Optional

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.reuse import (
    Estimate,
    NginxCount,
    Reuse,
    Snapshot,
    client_reuse,
    look_interval_s,
    parse_status,
    passive_opens,
    sampled_per_request,
    sampler,
    tcp_peers,
    unix_peers,
    upstream_reuse,
    watched,
)

FIXTURES = Path(__file__).parent / "fixtures"
# As nginx 1.26.3 answered.
STATUS = (
    "Active connections: 1 \nserver accepts handled requests\n 3 3 3 \n"
    "Reading: 0 Writing: 1 Waiting: 0 \n"
)


def test_nginx_tells_what_it_accepted_and_what_it_opened() -> None:
    assert parse_status(STATUS, "5") == NginxCount(accepted=3, requests=3, opened=2)


@pytest.mark.parametrize(("page", "number"), [(STATUS, None), ("<html>", "5")])
def test_another_page_is_no_counter(page: str, number: Optional[str]) -> None:
    with pytest.raises(KeepaliveError, match="nginx_status_url must give"):
        parse_status(page, number)


def test_the_kernel_counts_accepted_connections() -> None:
    snmp = (
        "Ip: Forwarding DefaultTTL\nIp: 1 64\n"
        "Tcp: RtoAlgorithm ActiveOpens PassiveOpens\nTcp: 1 310 297\n"
    )
    assert passive_opens(snmp) == 297


def test_accepted_connections_of_a_unix_socket() -> None:
    table = (FIXTURES / "proc_net_unix.txt").read_text()
    assert "79718" in unix_peers(table, "/run/systemd/journal/stdout")
    assert unix_peers(table, "/run/none.sock") == frozenset()


def test_a_queued_connection_is_never_the_same() -> None:
    line = "0000000000000000: 00000002 00000000 00000000 0001 02     0 /run/x.sock"
    table = "Num RefCount Protocol Flags Type St Inode Path\n" + line
    first, second = unix_peers(table, "/run/x.sock"), unix_peers(table, "/run/x.sock")
    assert len(first) == len(second) == 1
    assert not first & second


def test_established_connections_of_a_port() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm retr uid timeout "
        "inode\n"
        "   0: 0100007F:1F40 00000000:0000 0A 0:0 00:0 0 0 0 111 1\n"
        "   1: 0100007F:1F40 0100007F:9C40 01 0:0 00:0 0 0 0 112 1\n"
        "   2: 0100007F:1F40 0100007F:9C41 06 0:0 00:0 0 0 0 0 1\n"
        "   3: 0100007F:9C40 0100007F:1F40 01 0:0 00:0 0 0 0 113 1\n"
    )
    assert tcp_peers(table, 8000) == {"112"}


def test_an_address_that_is_none() -> None:
    with pytest.raises(KeepaliveError, match=r"app_socket is '/run/x\.sock'"):
        sampler("/run/x.sock", Path("/proc"))


def test_a_watch_looks_until_it_ends() -> None:
    with watched(lambda: frozenset("a"), 0.01) as samples:
        while len(samples) < 2:
            pass
    assert set(samples) == {frozenset("a")}


@pytest.mark.parametrize(
    ("duration_s", "interval_s"), [(1, 0.1), (6, 0.15), (60, 0.25)]
)
def test_a_short_run_is_looked_at_more_often(
    duration_s: int, interval_s: float
) -> None:
    assert look_interval_s(duration_s) == pytest.approx(interval_s)


def sampled(
    samples: List[FrozenSet[str]],
    *,
    requests_per_s: int = 8000,
    connections: int = 100,
    all_requests: int = 22000,
) -> Optional[Estimate]:
    return sampled_per_request(
        samples,
        0.25,
        requests_per_s=requests_per_s,
        connections=connections,
        all_requests=all_requests,
    )


def seen(per_request: float, *, looks: int = 12) -> List[FrozenSet[str]]:
    """Simulate 100 connections at 8000 requests a second, looked at 4 times a second.

    Each request renews its connection with the given probability; as many idle ones
    of somebody else stay throughout.
    """
    dice, serial = random.Random(1), 0
    live = [f"{number}" for number in range(100)]
    samples = []
    for _look in range(looks):
        for _request in range(2000):
            if dice.random() < per_request:
                serial += 1
                live[dice.randrange(100)] = f"new-{serial}"
        idle = {f"idle-{number}" for number in range(100)}
        samples.append(frozenset(live) | idle)
    return samples


@pytest.mark.parametrize("per_request", [0.0, 0.0005, 0.002, 1.0])
def test_samples_tell_about_how_many_were_opened(per_request: float) -> None:
    found = sampled(seen(per_request))
    assert found is not None
    assert found.low <= per_request + 0.001
    assert found.high >= per_request
    opened = Reuse(22000, int(22000 * per_request), found, 0)
    assert opened.agree


@pytest.mark.parametrize(("really", "counted"), [(0.0, 1.0), (1.0, 0.0)])
def test_samples_contradict_a_wrong_count(really: float, counted: float) -> None:
    found = sampled(seen(really))
    wrong = Reuse(22000, int(22000 * counted), found, 0)
    assert wrong.agree is False
    assert "the witnesses disagree" in wrong.doubts("the app", "any")[0]


def test_connections_that_were_all_opened_at_once_are_not_many() -> None:
    """A pool whose connections all reached their age, as seen in a run of 1 s."""
    old, young = (frozenset(map(str, range(n, n + 100))) for n in (0, 100))
    found = sampled([old, young, young], requests_per_s=4000, all_requests=4400)
    assert found
    assert Reuse(4400, 114, found, 0).agree


def test_too_little_to_see() -> None:
    assert sampled([frozenset("a")]) is None
    assert sampled([frozenset(), frozenset()], requests_per_s=0) is None


def test_a_kernel_that_could_say_anything_agrees_with_nobody() -> None:
    found = sampled([frozenset(), frozenset()], connections=1, all_requests=9)
    assert found
    alone = Reuse(2000, 2000, found, 0)
    assert alone.agree is None
    assert "nothing but nginx tells of reuse" in alone.doubts("the app", "new")[0]
    assert alone.doubts("the app", "any") == []


def test_too_few_requests_to_tell() -> None:
    short = Reuse(90, 90, None, 100)
    assert "90 requests are too few" in short.doubts("the app", "kept")[0]
    assert "90 requests are too few" in short.doubts("the app", "new")[0]
    assert short.doubts("the app", "any") == []


@pytest.mark.parametrize(
    ("opened", "expected", "doubted"),
    [
        (100, "kept", False),  # the pool was filled
        (121, "kept", True),
        (10000, "kept", True),
        (10000, "new", False),
        (9700, "new", True),
        (100, "new", True),
        (5000, "any", False),
    ],
)
def test_what_a_hop_must_show(opened: int, expected: str, doubted: bool) -> None:
    exact = Estimate(opened / 10000, opened / 10000, opened / 10000)
    found = Reuse(10000, opened, exact, 100).doubts("the app", expected)
    assert bool(found) == doubted


def test_both_hops_of_a_run() -> None:
    before = Snapshot(NginxCount(accepted=10, requests=500, opened=40), 1000)
    after = Snapshot(NginxCount(accepted=112, requests=10501, opened=10040), 1101)
    client = client_reuse(before, after, connections=100, app_is_tcp=False)
    upstream = upstream_reuse(before, after, None, fill=100)
    assert client
    assert upstream
    assert (client.requests, client.opened, client.agree) == (10000, 101, True)
    assert (upstream.per_request, upstream.agree) == (1.0, None)
    assert client.as_result()["kernel"] == 0.0101
    assert client_reuse(before, before, connections=1, app_is_tcp=False) is None
