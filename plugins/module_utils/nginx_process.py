# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the nginx that runs on a host, and the configuration it runs by."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import nginx_tree
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    find_nginx,
    installed_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_reload import (
    find_children,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.proc_stat import (
    parse_name,
    parse_parent,
    read_stats,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import (
    is_newer,
    oldest_start_s,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

_TITLE = "nginx: master process "
_WORKER = "nginx: worker process"
_DELETED = " (deleted)"
_SAID_LINES = 5


@dataclass(frozen=True)
class Nginx:
    """The nginx that runs, or would; ``master`` is None if none does."""

    binary: str
    version: str
    master: Optional[int]
    workers: Tuple[int, ...]
    was_replaced: bool
    tree: List[nginx_tree.Directive]
    # Files written after the workers started.
    newer_files: Tuple[str, ...]


def _title(pid: int, proc: Path) -> str:
    try:
        text = (proc / str(pid) / "cmdline").read_text(errors="replace")
    except OSError:
        return ""
    return text.replace("\0", " ").strip()


def find_masters(proc: Path) -> List[int]:
    """Return the nginx masters of this system, without those in containers."""
    stats = dict(read_stats(proc))
    own = _namespace(proc / "self")
    return [
        pid
        for pid, stat in sorted(stats.items())
        if parse_name(stat) == "nginx"
        if parse_name(stats.get(parse_parent(stat), "")) != "nginx"
        if _title(pid, proc).startswith(_TITLE)
        if _namespace(proc / str(pid)) == own
    ]


def _namespace(folder: Path) -> str:
    try:
        return os.readlink(folder / "ns" / "pid")
    except OSError:
        return ""


def find_workers(master: int, proc: Path) -> Tuple[int, ...]:
    """Return the workers that accept requests, not those that finish theirs."""
    children = sorted(find_children(master, proc))
    return tuple(pid for pid in children if _title(pid, proc) == _WORKER)


def started_with(title: str) -> Tuple[str, List[str]]:
    """Return the program and its options that say which configuration it reads.

    nginx joins its arguments by spaces in its title.
    """
    command = title[len(_TITLE) :] if title.startswith(_TITLE) else ""
    words = command.split(" -g ")[0].split()
    found = re.findall(r"(?:^| )(-[cp]) ?(\S+)", command)
    return words[0] if words else "", [word for pair in found for word in pair]


def _binary(wanted: str, master: Optional[int], proc: Path) -> Tuple[str, bool]:
    """Return the program's path, and whether the one that runs is gone."""
    running = ""
    if master is not None:
        try:
            running = os.readlink(proc / str(master) / "exe")
        except OSError:
            running = ""
    replaced = running.endswith(_DELETED)
    if running and not wanted:
        return running[: -len(_DELETED)] if replaced else running, replaced
    found = find_nginx(wanted or "nginx")
    if found is None:
        raise KeepaliveError(
            "nginx was not found: no process of that name runs, and {0} is not on "
            "PATH or in /usr/sbin; install nginx, or name its path in 'binary'".format(
                wanted or "nginx"
            )
        )
    return found, replaced


def _dump(binary: str, options: Sequence[str], run: Runner, master: object) -> str:
    argv = [binary, "-T", *options]
    status, out, err = run(argv)
    if status == 0:
        return out
    # It prints the configuration on standard output, which may hold secrets.
    said = "\n".join(err.strip().splitlines()[-_SAID_LINES:])
    raise KeepaliveError(
        "'{0}' refuses the configuration on disk{1}. Mend what it names, then run "
        "this again. It said:\n{2}".format(
            " ".join(map(shlex.quote, argv)),
            "; the nginx that runs serves by an earlier one" if master else "",
            said,
        )
    )


def read_nginx(wanted: str, run: Runner, proc: Path = Path("/proc")) -> Nginx:
    """Return the nginx of this host and its configuration. Raises KeepaliveError."""
    masters = find_masters(proc)
    master = masters[0] if masters else None
    binary, replaced = _binary(wanted, master, proc)
    _program, options = started_with(_title(master, proc) if master else "")
    dump = _dump(binary, options, run, master)
    workers = find_workers(master, proc) if master else ()
    started = oldest_start_s(workers, proc)
    # What runs tells its own version, though another took its place on disk.
    asked = str(proc / str(master) / "exe") if replaced else binary
    return Nginx(
        binary=binary,
        version=installed_version(asked, run) or "",
        master=master,
        workers=workers,
        was_replaced=replaced,
        tree=nginx_tree.load(dump),
        newer_files=tuple(
            name
            for name in nginx_tree.files(dump)
            if started and is_newer(name, started)
        ),
    )
