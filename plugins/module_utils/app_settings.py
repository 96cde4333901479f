# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a running Gunicorn's own loader what its settings are.

Only Gunicorn knows how its defaults, its configuration file, its variables and
its flags add up. So its loader runs again: with the interpreter, the user, the
folder and the environment of the process, without the application.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.app_command import (
    Command,
    Settings,
    gunicorn_config,
    gunicorn_settings,
    parse_exec_start,
    recognise,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import Process
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

_TIMEOUT_S = 20
_MARK = "keepalive.fastapi: "
_DEFAULT_CONFIG = "gunicorn.conf.py"
# Names, not values, come as an argument, for anyone may read arguments.
_SCRIPT = """
import json, os, sys
given = json.loads(sys.argv[1])
for name in set(os.environ) - set(given["names"]):
    del os.environ[name]
sys.argv = ["gunicorn"] + given["arguments"]
sys.dont_write_bytecode = True
import gunicorn
from gunicorn.app.wsgiapp import WSGIApplication
cfg = WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]").cfg
worker = cfg.settings["worker_class"].get()
if not isinstance(worker, str):
    worker = worker.__module__ + "." + worker.__qualname__
elif cfg.worker_class_str == "gthread":
    worker = "gthread"
names = ("keepalive", "timeout", "graceful_timeout", "workers", "max_requests")
found = {name: cfg.settings[name].get() for name in names + ("backlog",)}
allowed = cfg.settings["forwarded_allow_ips"].get()
if not isinstance(allowed, str):
    allowed = ",".join(allowed)
found["forwarded_allow_ips"] = allowed
found.update(worker_class=worker, version=gunicorn.__version__)
print("\\n%s" + json.dumps(found))
""".replace("%s", _MARK)


def start_folder(process: Process, unit: Mapping[str, str]) -> str:
    """Return the folder a process began in; Gunicorn may have left it since."""
    for folder in (process.environ.get("PWD", ""), unit.get("WorkingDirectory", "")):
        if folder.startswith("/") and os.path.isdir(folder):
            return folder
    return process.cwd


def _interpreter_of(script: str) -> str:
    """Return the interpreter in a script's first line; '' for none."""
    try:
        with open(script, "rb") as stream:
            line = stream.readline(512)
    except OSError:
        return ""
    if not line.startswith(b"#!"):
        return ""
    words = line[2:].decode(errors="replace").split()
    return words[0] if words and "python" in words[0] else ""


def interpreter(process: Process, program: Sequence[str], folder: str) -> str:
    """Return the Python that knows the process's packages.

    /proc/PID/exe is the system's Python even in a virtual environment, which
    only the name that it was called by tells.
    """
    path = process.environ.get("PATH")
    for word in program:
        found = shutil.which(word, path=path)
        name = found or os.path.join(folder, word)
        if "python" in os.path.basename(word) and os.access(name, os.X_OK):
            return name
        if _interpreter_of(name):
            return _interpreter_of(name)
    return process.exe


def _assignments(words: Sequence[str]) -> Dict[str, str]:
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: value for name, _equals, value in pairs}


def _unit_environ(unit: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment that a unit gives to its service."""
    found = {"PATH": os.defpath}
    path = unit.get("EnvironmentFiles", "").partition(" (")[0]
    # As in systemd, what a file says has the last word.
    for text in (unit.get("Environment", ""), _text(path)):
        with suppress(ValueError):
            found.update(_assignments(shlex.split(text, comments=True)))
    return found


def _text(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()
    return ""


def with_environ(process: Process, unit: Mapping[str, str]) -> Process:
    """Return the process with the environment it was started with.

    The package setproctitle writes its title over /proc/PID/environ too.
    """
    found = recognise(process.argv)
    if found and not found.program:
        return replace(process, environ=_unit_environ(unit))
    return process


def command_of(process: Process, unit: Mapping[str, str]) -> Optional[Command]:
    """Return the server's command line, from its unit where a title hides it."""
    found = recognise(process.argv)
    if found and not found.program:
        return recognise(parse_exec_start(unit.get("ExecStart", ""))) or found
    return found


def config_file(command: Command, environ: Mapping[str, str], folder: str) -> str:
    """Return the path of the configuration file; '' for none."""
    given = gunicorn_config(command.arguments, environ)
    if given.startswith("python:"):
        return ""
    path = os.path.join(folder, given[len("file:") * given.startswith("file:") :])
    if given:
        return path
    path = os.path.join(folder, _DEFAULT_CONFIG)
    return path if os.path.exists(path) else ""


def _tool(name: str) -> str:
    # The PATH that the command will have is the service's, which may lack it.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin", "/bin"])
    return shutil.which(name, path=path) or ""


def _as_user(process: Process) -> List[str]:
    """Return what precedes a command that shall run as the process's user.

    Empty where util-linux or coreutils are missing.
    """
    timeout, setpriv = _tool("timeout"), _tool("setpriv")
    if not timeout or not setpriv:
        return []
    groups = ",".join(map(str, process.groups))
    return [
        timeout,
        str(_TIMEOUT_S),
        setpriv,
        "--reuid={0}".format(process.uid),
        "--regid={0}".format(process.gid),
        "--groups={0}".format(groups) if groups else "--clear-groups",
        "--inh-caps=-all",
        "--no-new-privs",
    ]


def _parse(output: str, path: str) -> Optional[Settings]:
    """Return what the script printed last; a configuration may print too."""
    for line in reversed(output.splitlines()):
        if line.startswith(_MARK):
            # It ran as the service's user, who may print anything in its place.
            with suppress(KeyError, TypeError, ValueError):
                return _settings(json.loads(line[len(_MARK) :]), path)
            return None
    return None


def _load(
    process: Process, command: Command, folder: str, run: Runner
) -> Tuple[Optional[Settings], str]:
    """Return what Gunicorn's loader says, or why it says nothing."""
    # NOTIFY_SOCKET would let a configuration speak to systemd as the service.
    environ = {k: v for k, v in process.environ.items() if k != "NOTIFY_SOCKET"}
    given = {"names": sorted(environ), "arguments": list(command.arguments)}
    python = interpreter(process, command.program, folder)
    prefix = _as_user(process)
    if not prefix:
        return None, "the host has no setpriv or no timeout"
    argv = [*prefix, python, "-c", _SCRIPT, json.dumps(given)]
    status, out, err = run(argv, cwd=folder, env=environ)
    path = config_file(command, process.environ, folder)
    found = _parse(out, path) if status == 0 else None
    # The exception's name and no more, for its text may hold anything.
    named = re.findall(r"^([A-Za-z_][\w.]*(?:Error|Exception))\b", err, re.MULTILINE)
    return found, named[-1] if named else "exit status {0}".format(status)


def load_settings(
    process: Process, command: Command, folder: str, run: Optional[Runner]
) -> Tuple[Settings, str]:
    """Return the settings, and why Gunicorn's loader did not give them.

    Without ``run`` no code of the service is executed; flags tell what they can.
    """
    path = config_file(command, process.environ, folder)
    why = "it was not to be executed"
    if run is not None and command.program:
        found, why = _load(process, command, folder, run)
        if found is not None:
            return found, ""
    has_config = bool(path or gunicorn_config(command.arguments, process.environ))
    read = gunicorn_settings(
        command.arguments,
        process.environ,
        has_config=has_config or not command.program,
    )
    return read, why


def _settings(found: Mapping[str, Any], path: str) -> Settings:
    return Settings(
        source="gunicorn",
        version=str(found["version"]),
        keepalive_s=int(found["keepalive"]),
        timeout_s=int(found["timeout"]),
        graceful_timeout_s=int(found["graceful_timeout"]),
        workers=int(found["workers"]),
        worker_class=str(found["worker_class"]),
        max_requests=int(found["max_requests"]),
        backlog=int(found["backlog"]),
        forwarded_allow_ips=str(found["forwarded_allow_ips"]),
        config_file=path,
    )
