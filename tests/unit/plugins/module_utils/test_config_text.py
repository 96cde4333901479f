# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ast
import ipaddress
from typing import Dict, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.config_text import (
    nginx_cidr,
    nginx_header_name,
    nginx_quote,
    nginx_server_name,
    nginx_size,
    python_literal,
    systemd_environment,
    systemd_value,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from hypothesis import given
from hypothesis import strategies as st

ONE_LINE = st.text(st.characters(exclude_categories=("Cc", "Cs")))
UNTRUSTED = st.text(st.sampled_from(list("a1.-_~*[]{};:\"'\\$#%`/ \n\t\0é")))
NESTED = st.recursive(
    st.text()
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf")),
    st.lists,
    max_leaves=10,
)


def nginx_tokens(text: str) -> List[str]:
    """Read one statement character by character, as ngx_conf_read_token does."""
    tokens: List[str] = []
    word, quote, index = "", "", 0
    inside = False
    while index < len(text):
        character = text[index]
        index += 1
        if character == "\\" and inside:
            following = text[index]
            index += 1
            word += following if following in "\"'\\" else character + following
        elif quote and character == quote:
            tokens.append(word)
            word, quote, inside = "", "", False
        elif quote:
            word += character
        elif not inside and character in "\"'":
            quote, inside = character, True
        elif character in " \t\r\n;{":
            if inside:
                tokens.append(word)
            if character in ";{":
                tokens.append(character)
            word, inside = "", False
        else:
            word += character
            inside = True
    assert not inside
    return tokens


def environment_of(text: str) -> Dict[str, str]:
    """Read an EnvironmentFile as parse_env_file_internal of systemd does."""
    found = {}
    for line in text.splitlines():
        key, _equals, quoted = line.partition("=")
        assert quoted[0] == quoted[-1] == '"'
        value, characters = "", iter(quoted[1:-1])
        for character in characters:
            assert character != '"'
            if character == "\\":
                following = next(characters)
                value += following if following in '"\\`$' else "\\" + following
            else:
                value += character
        found[key] = value
    return found


@given(ONE_LINE)
def test_quoted_text_is_one_nginx_token_equal_to_the_value(value: str) -> None:
    statement = "add_header X {0};".format(nginx_quote(value))
    assert nginx_tokens(statement) == ["add_header", "X", value, ";"]


@given(UNTRUSTED)
def test_whatever_is_not_refused_stays_one_token(value: str) -> None:
    for function in (
        nginx_quote,
        nginx_server_name,
        nginx_header_name,
        nginx_cidr,
        nginx_size,
    ):
        try:
            printed = function(value)
        except KeepaliveError:
            continue
        assert len(nginx_tokens("set {0};".format(printed))) == 3
        assert printed[0] not in "#$"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "a\tb", "\x7f", "\x85"])
def test_control_characters_are_refused_everywhere(value: str) -> None:
    for function in (nginx_quote, systemd_value):
        with pytest.raises(KeepaliveError, match=r"motto.*control character"):
            function(value, name="motto")
    with pytest.raises(KeepaliveError, match=r"motto\.A.*control character"):
        systemd_environment({"A": value}, name="motto")


def test_nginx_variables_stay_unless_they_are_not_wanted() -> None:
    assert nginx_quote("$host", name="motto") == '"$host"'
    with pytest.raises(KeepaliveError, match=r"motto.*variable"):
        nginx_quote("costs $5", variables=False, name="motto")


def test_a_boolean_is_not_text() -> None:
    with pytest.raises(KeepaliveError, match="quotes around it"):
        nginx_quote(True)


@pytest.mark.parametrize(
    "value",
    [
        "localhost",
        "www.example.org",
        "my_host.internal",
        "xn--bcher-kva.example",
        "*.example.org",
        ".example.org",
        "www.example.*",
        "192.0.2.7",
        "[2001:db8::1]",
    ],
)
def test_server_names_pass_unchanged(value: str) -> None:
    assert nginx_server_name(value) == value


def test_a_bare_ipv6_address_gets_the_brackets_of_the_host_header() -> None:
    assert nginx_server_name("2001:db8::1") == "[2001:db8::1]"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "_",
        "a.example; return 403",
        "a.example b.example",
        "~^www\\d+",
        '"quoted"',
        "*",
        "*.*",
        "*.example.*",
        "*example.org",
        "-a.example",
        "a..example",
        "a.example.",
        "bücher.example",
        "999.1.1.1",
        "1.2.3",
        "[2001:db8::1",
        "fe80::1%eth0;}",
        "[192.0.2.7]",
        "a" * 64 + ".example",
        "a.example\n",
        ".".join(["a" * 60] * 5),
    ],
)
def test_other_server_names_are_refused_by_the_name_of_the_variable(
    value: str,
) -> None:
    with pytest.raises(KeepaliveError, match="site_names"):
        nginx_server_name(value, name="site_names")


def test_header_names_are_tokens_without_meaning_to_nginx() -> None:
    assert nginx_header_name("X-Request-Id") == "X-Request-Id"
    for value in ("", "X Y", "X:Y", "X;", "X{", 'X"', "#X", "$X", "'X", "Ü", "X\n"):
        with pytest.raises(KeepaliveError, match="header"):
            nginx_header_name(value, name="header")


@given(st.ip_addresses())
def test_an_address_comes_back_canonical(address: ipaddress.IPv4Address) -> None:
    assert nginx_cidr(address.exploded) == str(address)


def test_networks() -> None:
    assert nginx_cidr("10.0.0.0/8") == "10.0.0.0/8"
    assert nginx_cidr("2001:DB8::/32") == "2001:db8::/32"
    for value in ("10.0.0.1/8", "10.0.0.0/33", "fe80::1%a;b", "fe80::%a/64", "unix:"):
        with pytest.raises(KeepaliveError, match="trusted"):
            nginx_cidr(value, name="trusted")


def test_sizes() -> None:
    assert [nginx_size(value) for value in (0, 1048576, "512k", "1M")] == [
        "0",
        "1048576",
        "512k",
        "1M",
    ]
    for value in ("", "1g", "-1", "1 m", "1.5m", "m", "\u0661m", "1m;", 1.5):
        with pytest.raises(KeepaliveError, match="body"):
            nginx_size(value, name="body")


@given(ONE_LINE)
def test_a_unit_value_is_one_line_without_specifiers(value: str) -> None:
    try:
        printed = systemd_value(value)
    except KeepaliveError:
        assert value != value.strip() or value.endswith("\\")
        return
    assert printed.replace("%%", "").count("%") == 0
    assert printed.replace("%%", "%") == value
    assert not printed.endswith("\\")


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True),
        st.text(st.sampled_from(list("ab \"\\$`'#;%é="))),
    )
)
def test_an_environment_comes_back_equal(variables: Dict[str, str]) -> None:
    text = systemd_environment(variables)
    assert environment_of(text) == variables
    assert list(environment_of(text)) == sorted(variables)


def test_names_of_environment_variables_are_checked() -> None:
    for name in ("", "1A", "A-B", "A B", "A=B", "A\n", "Ä"):
        with pytest.raises(KeepaliveError, match="settings"):
            systemd_environment({name: "x"}, name="settings")
    with pytest.raises(KeepaliveError, match=r"settings\.DEBUG.*quotes"):
        systemd_environment({"DEBUG": True}, name="settings")


@given(NESTED)
def test_a_python_literal_evaluates_to_the_value(value: object) -> None:
    printed = python_literal(value)
    assert ast.literal_eval(printed) == value
    assert "\n" not in printed


def test_a_literal_of_a_subclass_is_that_of_its_base() -> None:
    class Hostile(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "__import__('os')"

    assert python_literal([Hostile("x"), True]) == "['x', True]"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {"a": 1}])
def test_what_has_no_safe_literal_is_refused(value: object) -> None:
    with pytest.raises(KeepaliveError, match=r"hooks\[0\]"):
        python_literal([value], name="hooks")
