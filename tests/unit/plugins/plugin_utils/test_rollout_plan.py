# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_plan import (
    look,
    waves,
)
from hypothesis import given
from hypothesis import strategies as st

NINE = ["a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"]
ZONES = {each: each[0] for each in NINE}


def test_canary_then_waves_in_the_inventorys_order() -> None:
    assert waves(NINE, 1, [2, "50%"], {}, 100) == [
        ["a1"],
        ["a2", "a3"],
        ["b1", "b2", "b3", "c1"],
        ["c2", "c3"],
    ]


def test_the_last_size_goes_on() -> None:
    assert [len(wave) for wave in waves(NINE, 1, [1, 3], {}, 100)] == [1, 1, 3, 3, 1]


def test_canaries_by_name() -> None:
    planned = waves(NINE, ["c1", "b2"], ["100%"], {}, 100)
    assert planned[0] == ["b2", "c1"]
    assert len(planned[1]) == 7


@pytest.mark.parametrize("none", [0, "0", []])
def test_without_a_canary(none: Any) -> None:
    assert waves(NINE, none, ["100%"], {}, 100) == [NINE]


def test_from_the_domains_by_turns() -> None:
    planned = waves(NINE, 0, [3], ZONES, 100)
    assert planned == [["a1", "b1", "c1"], ["a2", "b2", "c2"], ["a3", "b3", "c3"]]


def test_a_share_of_a_domain_makes_a_wave_smaller() -> None:
    planned = waves(NINE, 0, ["100%"], ZONES, 34)
    assert [len(wave) for wave in planned] == [3, 3, 3]
    assert all(max(Counter(map(ZONES.get, wave)).values()) == 1 for wave in planned)


def test_a_small_share_is_one_host() -> None:
    assert waves(["a1", "b1"], 0, [2], {"a1": "a", "b1": "b"}, 1) == [["a1", "b1"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hosts": []}, "no host"),
        ({"sizes": []}, "fastapi_rollout_waves is empty"),
        ({"sizes": ["0%"]}, "'0%'"),
        ({"sizes": ["101%"]}, "'101%'"),
        ({"sizes": ["half"]}, "'half'"),
        ({"sizes": [-1]}, "-1"),
        ({"canary": "two"}, "fastapi_rollout_canary has 'two'"),
        ({"canary": ["d1", "a1"]}, "names d1, which"),
        ({"share_percent": 0}, "share_percent is 0"),
        ({"domains": {"a1": "a"}}, "a2, a3, b1"),
    ],
)
def test_what_is_not_understood(options: dict[str, Any], said: str) -> None:
    known: dict[str, Any] = {
        "hosts": NINE,
        "canary": 1,
        "sizes": [1],
        "domains": {},
        "share_percent": 100,
    }
    with pytest.raises(KeepaliveError, match=said):
        waves(**{**known, **options})


def test_what_a_look_at_the_fleet_has_seen() -> None:
    mine, theirs = {"claim_holder": "mine"}, {"claim_holder": "theirs"}
    there = {"__fastapi_rollout_reached": {"ping": "pong"}}
    known: list[dict[str, Any]] = [
        {"inventory_hostname": "a", "__fastapi_service_host": mine, **there},
        {"inventory_hostname": "b", "__fastapi_service_host": theirs, **there},
        {"inventory_hostname": "c", "__fastapi_rollout_reached": {"unreachable": True}},
        {"inventory_hostname": "d", "__fastapi_rollout_unfit": "no disk", **there},
        # Lost while it was looked at, and refused before.
        {"inventory_hostname": "e", **there},
        {"inventory_hostname": "f"},
    ]
    assert look(known, ["a", "b", "c", "d"], "mine", []) == {
        "ready": ["a", "b"],
        "unfit": ["d", "f"],
        "unreachable": ["c", "e"],
        "claimed": ["a"],
        "held": ["b"],
    }
    assert look(known, ["a"], "", [])["held"] == ["a", "b"]
    assert look(known, ["a"], "", ["theirs"])["held"] == ["a"]


@given(
    zones=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60),
    canary=st.integers(0, 5),
    sizes=st.lists(
        st.one_of(st.integers(1, 9), st.integers(1, 100).map("{}%".format)),
        min_size=1,
        max_size=4,
    ),
    share=st.integers(1, 100),
)
def test_every_host_once_and_no_domain_too_often(
    zones: list[str], canary: int, sizes: list[Any], share: int
) -> None:
    domains = {f"h{number}": zone for number, zone in enumerate(zones)}
    planned = waves(list(domains), canary, sizes, domains, share)
    assert sorted(host for wave in planned for host in wave) == sorted(domains)
    assert all(planned)
    whole = Counter(zones)
    for wave in planned:
        for zone, number in Counter(domains[host] for host in wave).items():
            assert number <= max(math.floor(whole[zone] * share / 100), 1)
