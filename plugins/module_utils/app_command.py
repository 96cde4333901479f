# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application server was told: by its command line and its environment."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence

GUNICORN, UVICORN, FASTAPI = "gunicorn", "uvicorn", "fastapi"
# Servers whose settings are not read here.
_OTHERS = ("hypercorn", "daphne", "granian", "waitress-serve", "uwsgi")
_KNOWN = (GUNICORN, UVICORN, FASTAPI, *_OTHERS)


class Command(NamedTuple):
    """A server's command line: which server, what started it, its arguments."""

    server: str
    program: Sequence[str]
    arguments: Sequence[str]


@dataclass(frozen=True)
class Settings:
    """What a server runs by; None is for what could not be told or has no limit.

    ``worker_class`` is empty where there is no such thing, as in Uvicorn.
    """

    source: str
    version: Optional[str] = None
    keepalive_s: Optional[int] = None
    timeout_s: Optional[int] = None
    graceful_timeout_s: Optional[int] = None
    workers: Optional[int] = None
    worker_class: str = ""
    max_requests: Optional[int] = None
    backlog: Optional[int] = None
    forwarded_allow_ips: Optional[str] = None
    config_file: str = ""


class _Parser(argparse.ArgumentParser):
    """A parser that leaves alone what it does not know and never exits."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def recognise(argv: Sequence[str]) -> Optional[Command]:
    """Return what is known of a command line; None if it is no server's.

    ``python -m gunicorn``, a script that its first line gives to Python, and the
    title that the package setproctitle leaves.
    """
    if argv and argv[0].startswith("gunicorn: "):
        return Command(GUNICORN, (), ())
    for index, word in enumerate(argv[:4]):
        name = os.path.basename(word)
        if name in _KNOWN:
            return Command(name, tuple(argv[: index + 1]), tuple(argv[index + 1 :]))
    return None


def parse_exec_start(text: str) -> List[str]:
    """Return the command line in systemd's ExecStart property."""
    found = re.search(r"argv\[\]=(.*?) ; ignore_errors=", text)
    try:
        return shlex.split(found.group(1)) if found else []
    except ValueError:
        return []


def _parse(parser: _Parser, arguments: Sequence[str]) -> Dict[str, Any]:
    try:
        known, _rest = parser.parse_known_args(list(arguments))
    except ValueError:
        return {}
    return {name: value for name, value in vars(known).items() if value is not None}


def _parser(flags: Mapping[str, Sequence[str]], numbers: Sequence[str]) -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name, options in flags.items():
        kind = int if name in numbers else str
        parser.add_argument(*options, dest=name, type=kind)
    return parser


_NUMBERS = (
    "keepalive_s",
    "timeout_s",
    "graceful_timeout_s",
    "workers",
    "max_requests",
    "backlog",
    "threads",
)
_GUNICORN_FLAGS = {
    "config_file": ("-c", "--config"),
    "keepalive_s": ("--keep-alive",),
    "timeout_s": ("-t", "--timeout"),
    "graceful_timeout_s": ("--graceful-timeout",),
    "workers": ("-w", "--workers"),
    "worker_class": ("-k", "--worker-class"),
    "threads": ("--threads",),
    "max_requests": ("--max-requests",),
    "backlog": ("--backlog",),
    "forwarded_allow_ips": ("--forwarded-allow-ips",),
}
# gunicorn/config.py, the same from 19 to 27.
_GUNICORN_DEFAULTS: Dict[str, Any] = {
    "keepalive_s": 2,
    "timeout_s": 30,
    "graceful_timeout_s": 30,
    "workers": 1,
    "worker_class": "sync",
    "max_requests": 0,
    "backlog": 2048,
    "forwarded_allow_ips": "127.0.0.1,::1",
}
_UVICORN_FLAGS = {
    "keepalive_s": ("--timeout-keep-alive",),
    "graceful_timeout_s": ("--timeout-graceful-shutdown",),
    "workers": ("--workers",),
    "max_requests": ("--limit-max-requests",),
    "backlog": ("--backlog",),
    "forwarded_allow_ips": ("--forwarded-allow-ips",),
}
# uvicorn/config.py: a graceful shutdown has no limit of its own.
_UVICORN_DEFAULTS: Dict[str, Any] = {
    "keepalive_s": 5,
    "workers": 1,
    "max_requests": 0,
    "backlog": 2048,
    "forwarded_allow_ips": "127.0.0.1,::1",
}


def _from_environ(environ: Mapping[str, str]) -> Dict[str, Any]:
    """Return what both servers take from variables of their own."""
    found: Dict[str, Any] = {}
    if environ.get("WEB_CONCURRENCY", "").isdigit():
        found["workers"] = int(environ["WEB_CONCURRENCY"])
    if environ.get("FORWARDED_ALLOW_IPS"):
        found["forwarded_allow_ips"] = environ["FORWARDED_ALLOW_IPS"]
    return found


def gunicorn_config(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the configuration file a Gunicorn was given; '' for none."""
    return str(_gunicorn_flags(arguments, environ).get("config_file", ""))


def _gunicorn_flags(
    arguments: Sequence[str], environ: Mapping[str, str]
) -> Dict[str, Any]:
    parser = _parser(_GUNICORN_FLAGS, _NUMBERS)
    try:
        by_environ = shlex.split(environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:
        by_environ = []
    # The command line comes last, and so wins, as in Gunicorn.
    return {**_parse(parser, by_environ), **_parse(parser, arguments)}


def gunicorn_settings(
    arguments: Sequence[str], environ: Mapping[str, str], *, has_config: bool
) -> Settings:
    """Return what the flags say; a file not read may say anything of the rest."""
    known = {} if has_config else {**_GUNICORN_DEFAULTS, **_from_environ(environ)}
    flags = {**known, **_gunicorn_flags(arguments, environ)}
    threads = flags.pop("threads", 1)
    if flags.get("worker_class") == "sync" and threads > 1:
        flags["worker_class"] = "gthread"
    return Settings(source="command line", **flags)


def uvicorn_settings(
    server: str, arguments: Sequence[str], environ: Mapping[str, str]
) -> Settings:
    """Return what a Uvicorn without Gunicorn runs by, ``fastapi run`` among them."""
    parser = _parser(_UVICORN_FLAGS, _NUMBERS)
    by_environ: List[str] = []
    # Its command line takes every option from a variable too (auto_envvar_prefix).
    for options in _UVICORN_FLAGS.values() if server == UVICORN else ():
        variable = "UVICORN_" + options[0].strip("-").replace("-", "_").upper()
        if environ.get(variable):
            by_environ += [options[0], environ[variable]]
    flags = {
        **_UVICORN_DEFAULTS,
        **_from_environ(environ),
        **_parse(parser, by_environ),
        **_parse(parser, arguments),
    }
    return Settings(source="command line", **flags)
