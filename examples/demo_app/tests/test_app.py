# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import asyncio
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from keepalive_demo import __version__, main

PROJECT = Path(__file__).parents[1]
ITEM = {"name": "lamp", "description": "a lamp", "price": 9.5, "tax": 1.9}
KINDS = ["sync", "async"]


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(main.app) as test_client:
        yield test_client


def test_index_names_service_version_and_reachable_links(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APP_VERSION", raising=False)
    body = client.get("/").json()
    assert body["service"] == "keepalive-demo"
    assert body["version"] == __version__
    assert body["links"]["docs"] == "/docs"
    assert [client.get(link).status_code for link in body["links"].values()] == [
        200
    ] * 3


def test_version_can_be_set_by_the_environment(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_VERSION", "2.7.1")
    assert client.get("/").json()["version"] == "2.7.1"


def test_health(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_echoed(client: TestClient, kind: str) -> None:
    assert client.post(f"/{kind}/items/", json=ITEM).json() == ITEM


@pytest.mark.parametrize("kind", KINDS)
def test_optional_fields_default_to_null(client: TestClient, kind: str) -> None:
    response = client.post(f"/{kind}/items/", json={"name": "lamp", "price": 1})
    assert response.json() == {
        "name": "lamp",
        "description": None,
        "price": 1.0,
        "tax": None,
    }


def test_a_delayed_item_is_the_item(client: TestClient) -> None:
    url = "/async/delayed_items/?delay_us={}"
    assert client.post(url.format(1000), json=ITEM).json() == ITEM
    assert client.post(url.format(-1), json=ITEM).status_code == 422


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("endpoint", ["items", "big_json_response"])
def test_an_item_without_price_is_refused(
    client: TestClient, kind: str, endpoint: str
) -> None:
    response = client.post(f"/{kind}/{endpoint}/", json={"name": "lamp"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "price"]


@pytest.mark.parametrize("kind", KINDS)
def test_big_response_is_one_megabyte_of_json(client: TestClient, kind: str) -> None:
    response = client.post(f"/{kind}/big_json_response/", json=ITEM)
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) == pytest.approx(1_000_000, rel=0.01)
    assert response.json() == main.BIG_RESPONSE


@pytest.mark.parametrize("kind", KINDS)
def test_big_response_is_serialised_for_each_request(
    client: TestClient, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "BIG_RESPONSE", [{"id": 1}])
    response = client.post(f"/{kind}/big_json_response/", json=ITEM)
    monkeypatch.setitem(main.BIG_RESPONSE[0], "id", 2)
    later = client.post(f"/{kind}/big_json_response/", json=ITEM)
    assert (response.json(), later.json()) == ([{"id": 1}], [{"id": 2}])


def test_whoami_shows_client_and_process(client: TestClient) -> None:
    body = client.get("/whoami?probe=1").json()
    assert body == {
        "client_host": "testclient",
        "scheme": "http",
        "url": "http://testserver/whoami?probe=1",
        "http_version": "1.1",
        "forwarded": {},
        "pid": os.getpid(),
    }


def test_whoami_lists_only_forwarded_headers_with_repeats_joined(
    client: TestClient,
) -> None:
    headers = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-For", "198.51.100.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "192.0.2.7"),
        ("Forwarded", "for=192.0.2.7"),
        ("Authorization", "Bearer secret"),
    ]
    assert client.get("/whoami", headers=headers).json()["forwarded"] == {
        "x-forwarded-for": "192.0.2.7, 198.51.100.4",
        "x-forwarded-proto": "https",
        "x-real-ip": "192.0.2.7",
        "forwarded": "for=192.0.2.7",
    }


def test_whoami_over_a_unix_socket_has_no_client_address() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await main.app({**scope, "client": None}, receive, send)

    assert TestClient(app).get("/whoami").json()["client_host"] is None


def test_events_carry_id_and_data(client: TestClient) -> None:
    response = client.get("/events?interval=0.01&count=3")
    events = [
        dict(line.split(": ", 1) for line in event.splitlines())
        for event in response.text.removesuffix("\n\n").split("\n\n")
    ]
    assert [event["id"] for event in events] == ["1", "2", "3"]
    assert {json.loads(event["data"])["pid"] for event in events} == {os.getpid()}


def test_events_leave_buffering_to_the_proxy(client: TestClient) -> None:
    headers = client.get("/events?count=1").headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert "x-accel-buffering" not in headers


@pytest.mark.parametrize("query", ["interval=0", "interval=nan", "count=0"])
def test_events_refuse_a_bad_pace(client: TestClient, query: str) -> None:
    # With a count, so that an accepted query ends too and fails this test.
    response = client.get(f"/events?count=1&{query}")
    assert response.status_code == 422


def test_events_without_a_count_do_not_end() -> None:
    async def first(wanted: int) -> list[bytes]:
        seen: list[bytes] = []
        async for event in main.clock_events(0.0, None):
            seen.append(event)
            if len(seen) == wanted:
                return seen
        return seen

    assert len(asyncio.run(first(50))) == 50


def test_websocket_echoes_text_and_bytes(client: TestClient) -> None:
    with client.websocket_connect("/ws") as websocket:
        for text in ["hello", ""]:
            websocket.send_text(text)
            assert websocket.receive_text() == text
        websocket.send_bytes(b"\x00\xff")
        assert websocket.receive_bytes() == b"\x00\xff"


def test_requirements_in_repeats_the_project_dependencies() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (PROJECT / "requirements.in").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert wanted == project["dependencies"]
