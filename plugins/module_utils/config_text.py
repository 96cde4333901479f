# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values from variables, made safe to print into a configuration file.

Every function returns text that stays one value of its file format, or raises
KeepaliveError naming the variable (``name``). None returns text that could end
its directive, setting or literal and begin another one.
"""

from __future__ import annotations

import ipaddress
import math
import re
import unicodedata
from typing import Any, Mapping, NoReturn

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

# RFC 9110, 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A label of RFC 1123, with the underscore that internal names often carry.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SIZE = re.compile(r"[0-9]+[kKmM]?")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HIDDEN = "(hidden)"
# SHELL_NEED_ESCAPE in systemd's src/basic/env-file.c.
_ENVIRONMENT_SPECIAL = re.compile(r'["\\`$]')
_MAX_HOST_NAME = 253


def _refuse(name: str, value: Any, reason: str) -> NoReturn:
    raise KeepaliveError("{0}: {1!r} {2}".format(name, value, reason))


def _one_line(value: Any, name: str, *, secret: bool = False) -> str:
    """Return value as text; refuse what cannot stand on one line of UTF-8.

    The refusal of a ``secret`` value does not repeat it.
    """
    shown = _HIDDEN if secret else value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        _refuse(name, shown, "is not a string or a number; put quotes around it")
    text = str(value)
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            _refuse(
                name,
                shown,
                "holds the control character U+{0:04X}; give one line of plain "
                "text".format(ord(character)),
            )
    return text


def nginx_quote(value: Any, variables: bool = True, name: str = "value") -> str:
    """Return value as one double-quoted nginx parameter.

    With ``variables`` a ``$name`` stays an nginx variable. Without, ``$`` is
    refused, for nginx knows no escape for it (ngx_conf_read_token and
    ngx_http_script_compile).
    """
    text = _one_line(value, name)
    if not variables and "$" in text:
        _refuse(
            name,
            value,
            "holds '$', which nginx would take for a variable and cannot escape; "
            "remove it",
        )
    return '"{0}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def _is_host_name(text: str) -> bool:
    labels = text.split(".")
    if len(text) > _MAX_HOST_NAME or not all(map(_LABEL.fullmatch, labels)):
        return False
    if not labels[-1].isdigit():
        return True
    # A name that ends in a number can only be an IPv4 address (RFC 3696, 2).
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    # ipaddress accepts any text after '%' as a zone.
    return "%" not in text


def nginx_server_name(value: Any, name: str = "value") -> str:
    """Return value if nginx would take it as a literal or wildcard name.

    An IPv6 literal is returned in brackets, because that is how the ``Host``
    header carries it and nginx compares the two as text.
    """
    text = _one_line(value, name)
    if text == "_":
        _refuse(
            name,
            value,
            "would be no catch-all: names that no service has are answered with 444; "
            "list the names that visitors use",
        )
    literal = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ipv6(literal):
        return "[{0}]".format(literal)
    if not _is_host_name(_without_wildcard(text)):
        _refuse(
            name,
            value,
            "is not a server name; give a host name (an international one in its "
            "xn-- form), '*.example.org', '.example.org', 'www.example.*', an IP "
            "address; regular expressions ('~') are not accepted",
        )
    return text


def _without_wildcard(text: str) -> str:
    """Return what nginx would take literally in a name with one wildcard."""
    if text.startswith("*."):
        return text[2:]
    if text.startswith("."):
        return text[1:]
    return text.removesuffix(".*")


def nginx_header_name(value: Any, name: str = "value") -> str:
    """Return value if it is a header name (RFC 9110, 5.1) safe in nginx.

    ``#``, ``$`` and ``'`` are allowed by the RFC and refused here: unquoted,
    nginx takes them for a comment, a variable and a string.
    """
    text = _one_line(value, name)
    if not _TOKEN.fullmatch(text) or set(text) & set("#$'"):
        _refuse(
            name,
            value,
            "is not a header name; use letters, digits, '-' and '_', as in "
            "X-Request-Id",
        )
    return text


def nginx_cidr(value: Any, name: str = "value") -> str:
    """Return value as an address or network in its canonical form.

    Host bits beyond the prefix are refused: nginx only warns and drops them,
    so that a typing error would widen the trusted range.
    """
    text = _one_line(value, name)
    try:
        if "/" in text:
            canonical = str(ipaddress.ip_network(text))
        else:
            canonical = str(ipaddress.ip_address(text))
    except ValueError as error:
        _refuse(
            name,
            value,
            "is not an IP address or network ({0}); write 192.0.2.7, "
            "10.0.0.0/8 or 2001:db8::/32".format(error),
        )
    if "%" in canonical:
        _refuse(name, value, "names a zone ('%'), which has no meaning here; remove it")
    return canonical


def nginx_size(value: Any, name: str = "value") -> str:
    """Return value if it is a size in bytes, kilobytes (k) or megabytes (m)."""
    text = _one_line(value, name)
    if not _SIZE.fullmatch(text):
        _refuse(name, value, "is not a size; write bytes (1048576), 512k or 1m")
    return text


def systemd_value(value: Any, name: str = "value") -> str:
    """Return value as the right side of a setting in a unit file.

    ``%`` is doubled, so that no specifier is expanded (systemd.unit,
    "Specifiers"). What systemd would change silently is refused: white space
    at either end is dropped, a last backslash joins the next line.
    """
    text = _one_line(value, name)
    if text != text.strip():
        _refuse(name, value, "begins or ends with white space; remove it")
    if text.endswith("\\"):
        _refuse(
            name,
            value,
            "ends with a backslash, which would join the next line of the unit; "
            "remove it",
        )
    return text.replace("%", "%%")


def systemd_environment(variables: Mapping[str, Any], name: str = "environment") -> str:
    r"""Return the text of an EnvironmentFile, one line a variable, sorted.

    Values are double-quoted; ``\``, ``"``, ``$`` and the backtick are escaped
    with a backslash (systemd.exec, "EnvironmentFile="; env-file.c).
    """
    if not isinstance(variables, Mapping):
        _refuse(name, variables, "is not a dictionary of names and values")
    for key in variables:
        if not isinstance(key, str) or not _ENVIRONMENT_NAME.fullmatch(key):
            _refuse(
                name,
                key,
                "is not the name of an environment variable; use letters, digits "
                "and '_', no digit first",
            )
    lines = []
    for key in sorted(variables):
        text = _one_line(variables[key], "{0}.{1}".format(name, key), secret=True)
        quoted = _ENVIRONMENT_SPECIAL.sub(r"\\\g<0>", text)
        lines.append('{0}="{1}"\n'.format(key, quoted))
    return "".join(lines)


def python_literal(value: Any, name: str = "value") -> str:
    """Return the Python literal of a string, number, boolean or list of them.

    The base types' own ``__repr__`` is called, for Ansible hands over
    subclasses of them.
    """
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, str):
        return str.__repr__(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)
    if isinstance(value, (list, tuple)):
        items = (
            python_literal(item, "{0}[{1}]".format(name, index))
            for index, item in enumerate(value)
        )
        return "[{0}]".format(", ".join(items))
    _refuse(
        name, value, "is not a string, a finite number, a boolean or a list of them"
    )
