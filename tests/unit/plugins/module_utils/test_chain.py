# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any, Dict

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain import (
    OVERRIDES_VARIABLE,
    derive_chain,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    BUDGETS,
    CHAIN,
    ChainError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_rules import (
    RULES,
    Side,
    check_chain,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.worker_class import (
    check_worker_class,
)
from hypothesis import assume, given
from hypothesis import strategies as st

DEFAULTS: Dict[str, Any] = {
    "request_timeout_s": 30,
    "client_idle_s": 70,
    "upstream_idle_s": 15,
    "drain_timeout_s": 75,
    "start_timeout_s": 30,
    "concurrent_requests": 128,
    "peak_requests_per_s": 0,
    "backlog": 2048,
    "max_requests": 0,
    "worker_class": "uvicorn_worker.UvicornWorker",
    "workers": 2,
    "nginx_workers": 2,
    "nginx_worker_connections": 4096,
    "nginx_worker_shutdown_timeout_s": 0,
    "somaxconn": 4096,
    "in_force_keepalive_time_s": 0,
    "in_force_keepalive_s": 0,
}
WORKER_CLASSES = ("uvicorn_worker.UvicornWorker", "asgi", "shop.workers.DrainingWorker")

any_budgets = st.fixed_dictionaries(
    {key: st.integers(least, greatest) for key, (least, greatest) in BUDGETS.items()}
    | {"worker_class": st.sampled_from(WORKER_CLASSES)}
)


@st.composite
def coherent_budgets(draw: st.DrawFn) -> Dict[str, Any]:
    """Budgets that contradict neither each other nor the host."""
    request_s = draw(st.integers(1, 40_000))
    idle_s = draw(st.integers(1, 40_000))
    start_s = draw(st.integers(1, 86_400))
    max_requests = draw(st.sampled_from((0, 1, 1000, 10**9)))
    concurrent = draw(st.integers(1, 1000))
    restart_s = max(request_s, idle_s) + 5 + start_s
    return {
        "request_timeout_s": request_s,
        "client_idle_s": draw(st.integers(1, 86_400)),
        "upstream_idle_s": idle_s,
        "drain_timeout_s": draw(st.integers(request_s + idle_s + 6, 86_400)),
        "start_timeout_s": start_s,
        "concurrent_requests": concurrent,
        "peak_requests_per_s": draw(st.sampled_from((0, 99 // restart_s))),
        "backlog": draw(st.integers(100, 1_000_000)),
        "max_requests": max_requests,
        "worker_class": draw(st.sampled_from(WORKER_CLASSES)),
        "workers": draw(st.integers(2 if max_requests else 1, 64)),
        "nginx_workers": draw(st.integers(1, 64)),
        "nginx_worker_connections": draw(st.integers(2 * concurrent, 1_000_000)),
        "nginx_worker_shutdown_timeout_s": draw(
            st.one_of(st.just(0), st.integers(request_s, 86_400))
        ),
        "somaxconn": draw(st.integers(1_000_000, 2**31 - 1)),
        "in_force_keepalive_time_s": draw(st.integers(0, 40_000)),
        "in_force_keepalive_s": draw(st.integers(0, 40_000)),
    }


any_override = st.sampled_from(sorted(CHAIN)).flatmap(
    lambda key: st.tuples(st.just(key), st.integers(*CHAIN[key].bounds))
)


def refusal(overrides: Dict[str, Any], **budgets: Any) -> str:
    with pytest.raises(ChainError) as caught:
        derive_chain({**DEFAULTS, **budgets}, overrides)
    return str(caught.value)


def test_defaults_on_two_cores() -> None:
    assert derive_chain(DEFAULTS, {}) == {
        "drain_timeout_s": 75,
        "drain_limit_s": 75,
        "backlog": 2048,
        "client_keepalive_s": 75,
        "client_keepalive_min_s": 10,
        "client_keepalive_requests": 10_000,
        "upstream_keepalive_s": 15,
        "app_keepalive_s": 75,
        "app_graceful_s": 35,
        "app_heartbeat_s": 70,
        "systemd_start_s": 30,
        "systemd_stop_s": 80,
        "proxy_connect_s": 5,
        "proxy_read_s": 70,
        "proxy_send_s": 70,
        "upstream_keepalive_time_s": 25,
        "upstream_keepalive_requests": 25_000,
        "upstream_keepalive_pool": 128,
        "app_max_requests": 0,
        "app_max_requests_jitter": 0,
        "limit_nofile": 9216,
    }


def test_a_slot_is_drained_by_the_site_in_force() -> None:
    longer = {"in_force_keepalive_time_s": 3000, "in_force_keepalive_s": 60}
    assert derive_chain({**DEFAULTS, **longer}, {})["drain_limit_s"] == 3095
    its_own = {"in_force_keepalive_time_s": 25, "in_force_keepalive_s": 15}
    assert derive_chain({**DEFAULTS, **its_own}, {})["drain_limit_s"] == 75


@given(coherent_budgets())
def test_coherent_budgets_always_give_a_chain_that_holds(
    budgets: Dict[str, Any],
) -> None:
    chain = derive_chain(budgets, {})
    checked = check_chain({**budgets, **chain})
    assert [i.relation for i in checked if not i.holds] == []
    assert min(chain[key] - CHAIN[key].bounds.least for key in chain) >= 0


@given(any_budgets)
def test_any_budgets_give_a_chain_that_holds_or_name_the_rules_broken(
    budgets: Dict[str, Any],
) -> None:
    try:
        chain = derive_chain(budgets, {})
    except ChainError as error:
        # Only what budgets alone can contradict; the rest is derived to hold.
        rules = {line.split("(")[1].split(")")[0] for line in str(error).splitlines()}
        assert rules <= {
            "recycle_workers",
            "restart_queue",
            "restart_queue_asgi",
            "backlog",
            "nginx_reload",
            "open_files",
            "drain_room",
        }
        assert rules
    else:
        assert all(i.holds for i in check_chain({**budgets, **chain}))


@given(coherent_budgets(), any_override)
def test_one_override_holds_or_is_named(
    budgets: Dict[str, Any], override: tuple[str, int]
) -> None:
    key, value = override
    try:
        chain = derive_chain(budgets, {key: value})
    except ChainError as error:
        for line in str(error).splitlines():
            assert f"{OVERRIDES_VARIABLE}.{key} = {value}" in line
    else:
        assert chain[key] == value
        assert all(i.holds for i in check_chain({**budgets, **chain}))


@given(coherent_budgets())
def test_a_chain_given_back_as_overrides_is_the_same_chain(
    budgets: Dict[str, Any],
) -> None:
    chain = derive_chain(budgets, {})
    assert derive_chain(budgets, chain) == chain


@pytest.mark.parametrize(
    ("budget", "grows"),
    [
        (
            "request_timeout_s",
            ["app_graceful_s", "app_heartbeat_s", "proxy_read_s", "systemd_stop_s"],
        ),
        ("client_idle_s", ["client_keepalive_s"]),
        ("upstream_idle_s", ["upstream_keepalive_s", "app_keepalive_s"]),
        ("start_timeout_s", ["proxy_read_s", "proxy_send_s", "systemd_start_s"]),
        (
            "drain_timeout_s",
            ["upstream_keepalive_time_s", "upstream_keepalive_requests"],
        ),
        ("concurrent_requests", ["upstream_keepalive_pool"]),
        ("nginx_workers", ["limit_nofile"]),
    ],
)
@given(budgets=coherent_budgets(), more=st.integers(1, 1000))
def test_a_larger_budget_never_shrinks_what_it_pays_for(
    budget: str, grows: list[str], budgets: Dict[str, Any], more: int
) -> None:
    before = derive_chain(budgets, {})
    try:
        after = derive_chain({**budgets, budget: budgets[budget] + more}, {})
    except ChainError:
        assume(False)
    assert all(after[key] >= before[key] for key in grows)


@pytest.mark.parametrize("side", [s for rule in RULES for s in (rule.left, rule.right)])
@given(budgets=coherent_budgets())
def test_the_text_of_a_rule_says_what_it_computes(
    side: Side, budgets: Dict[str, Any]
) -> None:
    values = {**budgets, **derive_chain(budgets, {})}
    expression = side.text.replace("{", "").replace("}", "")
    scope = {"max": max, "__builtins__": {}}
    assert side.value(values) == eval(expression, scope, values)


@pytest.mark.parametrize(
    ("rule", "budgets", "overrides", "said"),
    [
        (
            "client_idle",
            {},
            {"client_keepalive_s": 74},
            [
                "fastapi_service_client_idle_s = 70",
                "fastapi_service_chain_overrides.client_keepalive_s = 74",
                "to at least 75",
            ],
        ),
        (
            "upstream_idle",
            {},
            {"app_keepalive_s": 19},
            [
                "(20 against 19)",
                "upstream_keepalive_s = 15 (from fastapi_service_upstream_idle_s = 15)",
                "raise fastapi_service_chain_overrides.app_keepalive_s to at least 20",
            ],
        ),
        ("request_read", {}, {"proxy_read_s": 29}, ["(30 against 29)"]),
        ("request_graceful", {}, {"app_graceful_s": 29}, ["(30 against 29)"]),
        (
            "recycle_uvicorn",
            {"max_requests": 1000},
            {"app_heartbeat_s": 62},
            ["(62 against 62)", "fastapi_service_max_requests = 1000"],
        ),
        (
            "recycle_asgi",
            {"max_requests": 1000, "worker_class": "asgi"},
            {"app_heartbeat_s": 35},
            ["(35 against 35)"],
        ),
        (
            "recycle_workers",
            {"max_requests": 1000, "workers": 1},
            {},
            ["fastapi_service_workers = 1", "raise fastapi_service_workers to"],
        ),
        (
            "linger_graceful",
            {"worker_class": "shop.workers.DrainingWorker", "request_timeout_s": 2},
            {"app_graceful_s": 19},
            ["(20 against 19)"],
        ),
        (
            "linger_heartbeat",
            {"worker_class": "asgi"},
            {"app_heartbeat_s": 20},
            ["(20 against 20)"],
        ),
        (
            "stop",
            {},
            {"systemd_stop_s": 79},
            [
                "(80 against 79)",
                "app_graceful_s = 35 (from fastapi_service_request_timeout_s = 30, ",
            ],
        ),
        ("restart_read", {}, {"proxy_read_s": 65}, ["(65 against 65)"]),
        ("restart_send", {}, {"proxy_send_s": 65}, ["(65 against 65)"]),
        (
            "restart_queue",
            {"peak_requests_per_s": 32},
            {},
            ["(2080 against 2048)", "raise fastapi_service_backlog above 2080"],
        ),
        (
            "restart_queue",
            {"peak_requests_per_s": 32, "backlog": 2080},
            {},
            ["(2080 against 2080)"],
        ),
        (
            "restart_queue_asgi",
            {"peak_requests_per_s": 2, "worker_class": "asgi"},
            {},
            ["(130 against 100)", "use a Uvicorn worker class"],
        ),
        (
            "restart_queue_asgi",
            {"peak_requests_per_s": 2, "worker_class": "asgi", "start_timeout_s": 15},
            {},
            ["(100 against 100)", "fastapi_service_start_timeout_s = 15"],
        ),
        (
            "backlog",
            {"somaxconn": 2047},
            {},
            ["fastapi_service_somaxconn = 2047", "net.core.somaxconn"],
        ),
        (
            "nginx_reload",
            {"nginx_worker_shutdown_timeout_s": 29},
            {},
            ["fastapi_service_nginx_worker_shutdown_timeout_s to at least 30"],
        ),
        (
            "open_files",
            {},
            {"limit_nofile": 384},
            ["(384 against 384)", "fastapi_service_concurrent_requests = 128"],
        ),
        (
            "drain_room",
            {"drain_timeout_s": 50},
            {},
            [
                "fastapi_service_request_timeout_s + upstream_keepalive_s + 5 < ",
                "fastapi_service_drain_timeout_s = 50",
                "raise fastapi_service_drain_timeout_s above 50",
            ],
        ),
        (
            "client_keepalive_min",
            {},
            {"client_keepalive_min_s": 76},
            ["(76 against 75)", "client_keepalive_min_s = 76"],
        ),
        (
            "nginx_reload_idle",
            {"nginx_worker_shutdown_timeout_s": 30},
            {"client_keepalive_min_s": 31},
            ["(31 against 30)", "at least 31, or set it to 0"],
        ),
        (
            "drain",
            {},
            {"upstream_keepalive_time_s": 31},
            ["(76 against 75)", "fastapi_service_drain_timeout_s to at least 76"],
        ),
    ],
)
def test_a_broken_rule_names_its_variables_values_and_fix(
    rule: str, budgets: Dict[str, Any], overrides: Dict[str, int], said: list[str]
) -> None:
    message = refusal(overrides, **budgets)
    line = next(line for line in message.splitlines() if f"({rule})" in line)
    for text in (*said, "To fix it, "):
        assert text in line


@pytest.mark.parametrize(
    ("budgets", "overrides"),
    [
        ({}, {"client_keepalive_s": 75}),
        ({}, {"app_keepalive_s": 20}),
        ({}, {"proxy_read_s": 66, "proxy_send_s": 66}),
        ({}, {"app_graceful_s": 30}),
        ({"max_requests": 1000}, {"app_heartbeat_s": 63}),
        ({"max_requests": 1000, "worker_class": "asgi"}, {"app_heartbeat_s": 36}),
        ({"worker_class": "asgi"}, {"app_heartbeat_s": 21}),
        ({"peak_requests_per_s": 31}, {}),
        ({"peak_requests_per_s": 1, "worker_class": "asgi"}, {}),
        ({"somaxconn": 2048}, {}),
        ({"nginx_worker_shutdown_timeout_s": 30}, {"client_keepalive_min_s": 30}),
        ({}, {"limit_nofile": 385}),
        ({"drain_timeout_s": 51}, {}),
        ({}, {"upstream_keepalive_time_s": 30}),
    ],
)
def test_the_boundary_of_a_rule_is_accepted(
    budgets: Dict[str, Any], overrides: Dict[str, int]
) -> None:
    chain = derive_chain({**DEFAULTS, **budgets}, overrides)
    assert overrides.items() <= chain.items()


def test_every_broken_rule_is_listed() -> None:
    message = refusal({"app_keepalive_s": 5, "systemd_stop_s": 5}, somaxconn=5)
    assert [line.split("(")[1].split(")")[0] for line in message.splitlines()] == [
        "upstream_idle",
        "stop",
        "backlog",
    ]


def test_what_follows_from_an_overridden_value_follows_the_override() -> None:
    chain = derive_chain(DEFAULTS, {"app_graceful_s": 60})
    assert chain["systemd_stop_s"] == 130
    assert chain["app_heartbeat_s"] == 120
    assert chain["proxy_read_s"] == 95


def test_a_stock_uvicorn_worker_gains_nothing_from_lingering_time() -> None:
    overrides = {"app_graceful_s": 5}
    quick = {"request_timeout_s": 2}
    chain = derive_chain({**DEFAULTS, **quick}, overrides)
    assert chain["app_graceful_s"] == 5
    assert "(linger_graceful)" in refusal(overrides, **quick, worker_class="asgi")


def test_old_nginx_workers_stay_for_the_clients_they_spare() -> None:
    for limit_s, spared_s in ((0, 10), (60, 10), (3, 3)):
        quick = {"request_timeout_s": 2, "nginx_worker_shutdown_timeout_s": limit_s}
        chain = derive_chain({**DEFAULTS, **quick}, {})
        assert chain["client_keepalive_min_s"] == spared_s


def test_recycling_spreads_over_a_tenth_of_its_requests() -> None:
    chain = derive_chain({**DEFAULTS, "max_requests": 1000}, {})
    assert chain["app_max_requests_jitter"] == 100
    chain = derive_chain({**DEFAULTS, "max_requests": 3}, {})
    assert chain["app_max_requests_jitter"] == 1


def test_open_files_stay_within_what_systemd_grants() -> None:
    many = {"nginx_workers": 64, "nginx_worker_connections": 65_536}
    assert derive_chain({**DEFAULTS, **many}, {})["limit_nofile"] == 524_288


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_a_missing_budget_is_named(key: str) -> None:
    rest = {name: value for name, value in DEFAULTS.items() if name != key}
    with pytest.raises(ChainError, match=f"^fastapi_service_{key} is missing"):
        derive_chain(rest, {})


unusable = st.one_of(
    st.booleans(),
    st.none(),
    st.floats(),
    st.integers(max_value=-1),
    st.integers(min_value=2**31),
    st.text().filter(lambda text: not text.isdecimal()),
    st.sampled_from(["30s", " 30", "30\n", "٣٠", "-1", "1e3", "0x10", "9" * 5000]),
    st.lists(st.integers()),
)


@given(st.sampled_from(sorted(BUDGETS)), unusable)
def test_an_unusable_budget_is_refused_with_its_bounds(key: str, value: object) -> None:
    message = refusal({}, **{key: value})
    assert message.startswith(f"fastapi_service_{key} is {value!r}; it must be a whole")
    assert f"from {BUDGETS[key].least} to {BUDGETS[key].greatest}." in message


@given(st.sampled_from(sorted(CHAIN)), unusable)
def test_an_unusable_override_is_refused_with_its_bounds(
    key: str, value: object
) -> None:
    message = refusal({key: value})
    assert message.startswith(f"fastapi_service_chain_overrides.{key} is {value!r};")
    assert f"from {CHAIN[key].bounds.least} to " in message


@pytest.mark.parametrize(
    "key",
    [
        "request_timeout_s",
        "client_idle_s",
        "upstream_idle_s",
        "drain_timeout_s",
        "start_timeout_s",
    ],
)
@pytest.mark.parametrize("value", [0, 86_401])
def test_a_time_is_at_least_a_second_and_at_most_a_day(key: str, value: int) -> None:
    assert refusal({}, **{key: value}) == (
        f"fastapi_service_{key} is {value};"
        " it must be a whole number of seconds from 1 to 86400."
    )


def test_a_rate_is_not_counted_in_seconds() -> None:
    assert refusal({}, peak_requests_per_s=0.5) == (
        "fastapi_service_peak_requests_per_s is 0.5;"
        " it must be a whole number from 0 to 1000000."
    )


def test_digits_from_the_command_line_are_numbers() -> None:
    spelled = {key: str(value) for key, value in DEFAULTS.items()}
    assert derive_chain(spelled, {"proxy_connect_s": "2"}) == derive_chain(
        DEFAULTS, {"proxy_connect_s": 2}
    )


def test_all_unusable_input_is_listed_at_once() -> None:
    message = refusal(
        {"app_keep_alive_s": 5},
        request_timeout_s=0,
        backlog="many",
        worker_class="sync",
    )
    assert len(message.splitlines()) == 4


def test_an_unknown_name_gets_the_closest_known_one() -> None:
    assert refusal({"app_keep_alive_s": 40}) == (
        "fastapi_service_chain_overrides.app_keep_alive_s is unknown;"
        " did you mean fastapi_service_chain_overrides.app_keepalive_s?"
    )
    assert "did you mean fastapi_service_workers?" in refusal({}, worker=2)


def test_an_unknown_name_like_no_other_gets_the_list() -> None:
    assert "known are app_graceful_s, app_heartbeat_s" in refusal({"Ω": 40})


@pytest.mark.parametrize(
    ("worker_class", "reason"),
    [
        ("sync", "ignores keepalive"),
        ("gunicorn.workers.sync.SyncWorker", "ignores keepalive"),
        ("gthread", "FastAPI is ASGI"),
        ("gevent", "FastAPI is ASGI"),
        ("gevent_pywsgi", "FastAPI is ASGI"),
        ("eventlet", "FastAPI is ASGI"),
        ("tornado", "FastAPI is ASGI"),
        ("gunicorn.workers.gthread.ThreadWorker", "FastAPI is ASGI"),
        ("gunicorn.workers.ggevent.GeventWorker", "FastAPI is ASGI"),
        ("uvicorn.workers.UvicornWorker", "use uvicorn_worker.UvicornWorker of"),
        ("uvicorn.workers.UvicornH11Worker", "use uvicorn_worker.UvicornH11Worker of"),
        ("", "dotted path"),
        ("uvicorn", "dotted path"),
        ("egg:gunicorn#gthread", "dotted path"),
        ("shop.Worker\nbind = '0.0.0.0'", "dotted path"),
        ("shop.Worker\n", "dotted path"),
        ("shop..Worker", "dotted path"),
        (None, ", no text;"),
        (["asgi"], ", no text;"),
    ],
)
def test_a_worker_class_that_cannot_do_is_refused(
    worker_class: object, reason: str
) -> None:
    with pytest.raises(ChainError) as caught:
        check_worker_class(worker_class)
    assert str(caught.value).startswith("fastapi_service_worker_class is ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "worker_class", [*WORKER_CLASSES, "gunicorn.workers.gasgi.ASGIWorker"]
)
def test_an_asgi_worker_class_is_accepted(worker_class: str) -> None:
    assert check_worker_class(worker_class) == worker_class


def test_a_host_of_someone_else_is_checked_as_far_as_it_is_known() -> None:
    # The stock settings of nginx and Gunicorn, which lose POSTs.
    found = {"upstream_keepalive_s": 60, "app_keepalive_s": 2, "app_graceful_s": None}
    (inequality,) = check_chain(found)
    assert inequality.rule == "upstream_idle"
    assert inequality.relation == "upstream_keepalive_s + 5 <= app_keepalive_s"
    assert (inequality.left, inequality.right) == (65, 2)
    assert inequality.holds is False
    assert inequality.fix == (
        "raise app_keepalive_s to at least 65 or lower upstream_keepalive_s"
    )


def test_nginx_may_wait_exactly_as_long_as_a_request_takes() -> None:
    # Only seen on a host of someone else: here a restart asks for more.
    (inequality,) = check_chain({"request_timeout_s": 60, "proxy_read_s": 60})
    assert inequality.holds


@given(coherent_budgets(), st.sets(st.sampled_from(sorted({*BUDGETS, *CHAIN}))))
def test_missing_values_drop_exactly_the_rules_that_need_them(
    budgets: Dict[str, Any], missing: set[str]
) -> None:
    values = {**budgets, **derive_chain(budgets, {})}
    known = {key: value for key, value in values.items() if key not in missing}
    expected = [i for i in check_chain(values) if not missing & set(i.variables)]
    assert check_chain(known) == expected


def test_rules_apply_where_they_have_a_meaning() -> None:
    def applied(**budgets: Any) -> set[str]:
        values = {**DEFAULTS, **budgets}
        return {i.rule for i in check_chain({**values, **derive_chain(values, {})})}

    always = applied()
    assert not always & {"restart_queue", "nginx_reload", "recycle_workers"}
    assert applied(peak_requests_per_s=1) - always == {"restart_queue"}
    assert applied(nginx_worker_shutdown_timeout_s=30) - always == {
        "nginx_reload",
        "nginx_reload_idle",
    }
    assert applied(max_requests=9) - always == {"recycle_uvicorn", "recycle_workers"}
    # A class of one's own may report while it drains.
    draining = {"worker_class": "shop.workers.DrainingWorker"}
    assert applied(**draining, max_requests=9) - always == {
        "linger_graceful",
        "recycle_workers",
    }
    assert applied(worker_class="asgi", max_requests=9) - always == {
        "linger_graceful",
        "linger_heartbeat",
        "recycle_asgi",
        "recycle_workers",
    }


def test_rules_of_a_worker_class_need_it_to_be_known() -> None:
    values = {**DEFAULTS, **derive_chain(DEFAULTS, {}), "worker_class": "asgi"}
    named = {i.rule for i in check_chain(values)}
    del values["worker_class"]
    unnamed = {i.rule for i in check_chain(values)}
    assert named - unnamed == {"linger_graceful", "linger_heartbeat"}
