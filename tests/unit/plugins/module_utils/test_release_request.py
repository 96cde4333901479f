# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    ARGUMENTS,
    RELEASE_ID,
    ReleaseRequest,
    check_package,
    normal_requirements,
    release_id,
    request_from,
)
from hypothesis import given
from hypothesis import strategies as st


def request(**changes: Any) -> ReleaseRequest:
    params = {name: spec.get("default") for name, spec in ARGUMENTS.items()}
    params.update(name="shop", content_digest="c0ffee")
    params.update(changes)
    return request_from(params)


def test_releases_dir_follows_the_name() -> None:
    assert request().releases_dir == "/srv/shop/releases"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", "../etc"),
        ("name", "Shop"),
        ("releases_dir", "srv/releases"),
        ("python", "python3"),
        ("keep", -1),
        ("protected", ["blue"]),
        ("requirements", "/etc/requirements.txt"),
        ("requirements", "a/../../requirements.txt"),
        ("server_packages", ["--index-url=http://evil"]),
        ("server_packages", ["gunicorn==27.0.1\n-r /etc/passwd"]),
        ("server_packages", [""]),
        ("package", "fastapi"),
    ],
)
def test_bad_argument_is_refused_by_name(argument: str, value: object) -> None:
    with pytest.raises(
        KeepaliveError, match=f"^(fastapi_service_)?{argument}(_releases)?(:| is) "
    ):
        request(**{argument: value})


def test_requirements_do_not_go_with_a_package() -> None:
    with pytest.raises(KeepaliveError, match="cannot go with"):
        request(package="shop==1", requirements="requirements.txt")


def test_slot_without_a_release_protects_nothing() -> None:
    assert request(protected=["", "0123456789abcdef"]).protected == {"0123456789abcdef"}


@pytest.mark.parametrize(
    "package",
    [
        "shop==1.2.3",
        "shop[postgres,redis] == 1.2.3",
        "shop==1!2.0rc1+local.1",
        "/opt/wheels/shop-1.0-py3-none-any.whl",
        "https://host.example/shop-1.0-py3-none-any.whl",
        "http://host.example/shop-1.0-py3-none-any.whl#sha256=00",
    ],
)
def test_pinned_package_is_taken(package: str) -> None:
    check_package(package)


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("shop", "not pinned"),
        ("shop>=1", "not pinned"),
        ("shop==1.*", "not pinned"),
        ("shop==1,<2", "not pinned"),
        ("--editable .", "not pinned"),
        ("shop.whl", "not pinned"),
        ("git+https://host.example/shop", "not pinned"),
        ("https://user:pw@host.example/shop-1.0-py3-none-any.whl", "index_url"),
        ("https://host.example/shop-1.0.tar.gz", "no URL of a wheel"),
        ("http://host.example/shop-1.0-py3-none-any.whl", "plain http"),
    ],
)
def test_package_that_could_change_is_refused(package: str, reason: str) -> None:
    with pytest.raises(KeepaliveError, match=reason) as refusal:
        check_package(package)
    assert "pw" not in str(refusal.value)


def test_requirements_have_one_spelling() -> None:
    assert normal_requirements("./a//b/../requirements.txt") == "a/requirements.txt"
    assert normal_requirements("") == ""


INPUTS = [
    {"content_digest": "decaf"},
    {"package": "shop==1"},
    {"requirements": "requirements.txt"},
    {"install_project": "never"},
    {"server_packages": ["gunicorn==27.0.1"]},
    {"extra_pip_args": ["--pre"]},
    {"wheels_digest": "decaf"},
    {"python": "/opt/python"},
]


@pytest.mark.parametrize("change", INPUTS, ids=lambda change: next(iter(change)))
def test_every_input_changes_the_id(change: dict[str, Any]) -> None:
    assert release_id(request(**change), "3.11.2", "") != release_id(
        request(), "3.11.2", ""
    )


def test_python_version_and_wheel_content_change_the_id() -> None:
    plain = release_id(request(), "3.11.2", "")
    assert release_id(request(), "3.11.3", "") != plain
    assert release_id(request(), "3.11.2", "decaf") != plain


@pytest.mark.parametrize(
    "change",
    [
        {"index_url": "https://user:pw@host.example/simple"},
        {"ca_bundle": "/etc/ssl/ca.pem"},
        {"keep": 9},
        {"protected": ["0123456789abcdef"]},
        {"releases_dir": "/opt/releases"},
        {"archive": "/tmp/a.tar.gz"},
        {"server_packages": []},
    ],
    ids=lambda change: next(iter(change)),
)
def test_where_from_and_what_to_keep_leave_the_id(change: dict[str, Any]) -> None:
    assert release_id(request(**change), "3.11.2", "") == release_id(
        request(), "3.11.2", ""
    )


@given(st.text(), st.lists(st.text()))
def test_id_is_sixteen_hexadecimal_digits(digest: str, arguments: list[str]) -> None:
    made = dataclasses.replace(
        request(), content_digest=digest, extra_pip_args=tuple(arguments)
    )
    assert RELEASE_ID.fullmatch(release_id(made, "3.11.2", ""))


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({}, True),
        ({"archive": "/tmp/a"}, False),
        ({"archive": "/tmp/a", "wheels_digest": "d"}, True),
        ({"archive": "/tmp/a", "wheels_digest": "d", "wheels_archive": "/w"}, False),
        ({"content_digest": "", "package": "shop==1"}, False),
    ],
)
def test_lacks_archives(change: dict[str, Any], lacks: bool) -> None:
    assert request(**change).lacks_archives is lacks
