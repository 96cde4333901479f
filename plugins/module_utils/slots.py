# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a service's two slots live on a host, and what is written there.

A slot owns every file that decides how it runs: its units, its Gunicorn
configuration, its environment and the name of its release. They are written
only while the slot is idle, so a live slot that is restarted, by hand or
after a crash, comes back as exactly what was proven.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

SLOTS = ("blue", "green")
# The role's site has this in its first line.
SITE_MARK = "role keepalive.fastapi.fastapi_service"
HIDDEN = "environment"
REVERT = "revert.service"
# Of the service and not of a slot: what recycles it by itself, or takes it back.
OWN_UNITS = (
    "recycle.service",
    "recycle.timer",
    "memory.service",
    "memory.timer",
    REVERT,
)
# In the first line of those units, and in the names of what the program is made of.
OWN_MARK, PACKAGE = b"keepalive.fastapi", b"ansible_collections/keepalive/fastapi"

# What precedes a value; a line without it goes on with the value before.
_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")


def other(slot: str) -> str:
    return SLOTS[1 - SLOTS.index(slot)]


@dataclass(frozen=True)
class SlotFiles:
    """The texts that make a slot what it is; the same for either slot.

    Units tell the slots apart by systemd's ``%i``.
    """

    release: str
    gunicorn_config: str
    environment: str
    service_unit: str
    socket_unit: str


@dataclass(frozen=True)
class Layout:
    """The paths of one service; ``root`` is another than / in tests only."""

    name: str
    root: Path = Path("/")

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise KeepaliveError(
                "fastapi_service_name is {0!r}; it names units, folders and a user, "
                "so it must be 1 to 31 characters of a-z, 0-9 and '-', "
                "beginning with a letter".format(self.name)
            )

    @property
    def run_dir(self) -> Path:
        return self.root / "run" / self.name

    @property
    def live_link(self) -> Path:
        return self.run_dir / "live.sock"

    @property
    def spare_dir(self) -> Path:
        """Where each slot's socket has a second name (a hard link).

        nginx takes it when the first is gone: whoever empties the run directory
        costs the service no request. No service can have a name with a dot.
        """
        return self.root / "run" / "keepalive.{0}".format(self.name)

    @property
    def spare_link(self) -> Path:
        return self.spare_dir / "live.sock"

    @property
    def links(self) -> Tuple[Path, Path]:
        return self.live_link, self.spare_link

    @property
    def socket_dirs(self) -> Tuple[Path, Path]:
        return self.run_dir, self.spare_dir

    @property
    def config_dir(self) -> Path:
        return self.root / "etc" / self.name

    @property
    def history_dir(self) -> Path:
        return self.config_dir / "history"

    @property
    def trial(self) -> Path:
        """What the host goes back to unless it is told that all is well."""
        return self.history_dir / "trial.json"

    @property
    def revert_timer(self) -> Path:
        return self.root / "run/systemd/system" / "{0}-revert.timer".format(self.name)

    @property
    def claim(self) -> Path:
        """Which rollout the service is in the hands of."""
        return self.root / "run" / "keepalive-{0}.claim".format(self.name)

    @property
    def tmpfiles(self) -> Path:
        # Of its own name alone it would mask the distribution's file of that name.
        return self.root / "etc/tmpfiles.d" / "keepalive-{0}.conf".format(self.name)

    @property
    def lock(self) -> Path:
        return self.root / "run" / "keepalive-{0}.lock".format(self.name)

    @property
    def state_dir(self) -> Path:
        return self.root / "var/lib" / self.name

    @property
    def releases_dir(self) -> Path:
        return self.root / "srv" / self.name / "releases"

    @property
    def program(self) -> Path:
        return self.root / "usr/local/sbin" / "fastapi-{0}".format(self.name)

    @property
    def recycled(self) -> Path:
        """When a recycle was last tried, by the monotonic clock."""
        return self.root / "run" / "keepalive-{0}.recycled".format(self.name)

    def own_unit(self, kind: str) -> Path:
        """Return the file of a unit that is of the service, not of a slot."""
        return self.root / "etc/systemd/system" / "{0}-{1}".format(self.name, kind)

    @property
    def site(self) -> Path:
        return self.root / "etc/nginx/conf.d" / "{0}.conf".format(self.name)

    def socket(self, slot: str) -> Path:
        return self.run_dir / "{0}.sock".format(slot)

    def spare_socket(self, slot: str) -> Path:
        return self.spare_dir / "{0}.sock".format(slot)

    def socket_names(self, slot: str) -> Tuple[Path, Path]:
        return self.socket(slot), self.spare_socket(slot)

    def socket_unit(self, slot: str) -> str:
        return "{0}@{1}.socket".format(self.name, slot)

    def service_unit(self, slot: str) -> str:
        return "{0}@{1}.service".format(self.name, slot)

    def units(self, slot: str) -> Tuple[str, str]:
        return self.socket_unit(slot), self.service_unit(slot)

    def unit_files(self, slot: str) -> Tuple[Path, Path]:
        folder = self.root / "etc/systemd/system"
        return folder / self.socket_unit(slot), folder / self.service_unit(slot)

    def files(self, slot: str) -> Dict[str, Tuple[Path, int]]:
        """Return the path and mode of each of SlotFiles' texts."""
        folder = self.config_dir / slot
        socket_unit, service_unit = self.unit_files(slot)
        return {
            "release": (folder / "release", 0o644),
            "gunicorn_config": (folder / "gunicorn.conf.py", 0o644),
            # systemd reads it as root before it drops privileges.
            HIDDEN: (folder / "environment", 0o600),
            "service_unit": (service_unit, 0o644),
            "socket_unit": (socket_unit, 0o644),
        }


def write_atomically(path: Path, text: str, mode: int) -> None:
    """Replace a text file as a whole, durably, or leave the old one."""
    write_bytes_atomically(path, text.encode("utf-8"), mode)


def write_bytes_atomically(path: Path, data: bytes, mode: int) -> None:
    """Replace a file as a whole, durably, or leave the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=str(path.parent), prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_slot(layout: Layout, slot: str) -> Optional[SlotFiles]:
    """Return what a slot is made of, or None unless all of it is there."""
    files = layout.files(slot)
    try:
        # Not read_text, which would take another line ending for a newline.
        texts = {name: files[name][0].read_bytes().decode() for name in files}
    except FileNotFoundError:
        return None
    return SlotFiles(**texts)


def write_slot(layout: Layout, slot: str, files: SlotFiles) -> None:
    for name, (path, mode) in layout.files(slot).items():
        write_atomically(path, getattr(files, name), mode)


def remove_slot(layout: Layout, slot: str) -> None:
    for path, _mode in layout.files(slot).values():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    with contextlib.suppress(FileNotFoundError):
        (layout.config_dir / slot).rmdir()


def has_traces(layout: Layout) -> bool:
    """Tell whether anything of the service is left, were it half removed."""
    if live_slot(layout):
        return True
    for slot in SLOTS:
        paths = [path for path, _mode in layout.files(slot).values()]
        if any(path.exists() for path in [layout.config_dir / slot, *paths]):
            return True
    return False


def foreign_folders(layout: Layout) -> List[Path]:
    """Return folders where the service's shall be that another program fills."""
    if has_traces(layout):
        return []
    folders = (layout.config_dir, *layout.socket_dirs)
    return [each for each in folders if each.is_dir() and any(each.iterdir())]


def foreign_paths(layout: Layout, user: str) -> List[Path]:
    """Return all that is where the service shall be, and is somebody else's."""
    found = foreign_folders(layout)
    if layout.site.exists() and SITE_MARK not in layout.site.read_text("utf-8"):
        found.append(layout.site)
    own = [layout.program, *(layout.own_unit(each) for each in OWN_UNITS)]
    found += [each for each in own if each.exists() and not _is_marked(each)]
    # systemd would hand what is in it to the service's user. One without a name
    # is a user that went with an earlier service.
    state = layout.state_dir
    if not has_traces(layout) and state.is_dir() and any(state.iterdir()):
        with contextlib.suppress(KeyError):
            if pwd.getpwuid(state.stat().st_uid).pw_name != user:
                found.append(state)
    return found


def _is_marked(path: Path) -> bool:
    data = path.read_bytes()
    return OWN_MARK in data or PACKAGE in data


def gunicorn_seconds(files: SlotFiles, setting: str) -> int:
    """Return a time of Gunicorn's configuration; 0 when the text sets none."""
    return _number(r"^{0} = (\d+)$".format(setting), files.gunicorn_config)


def site_seconds(site: Path, directive: str) -> int:
    """Return a time of a service's nginx site; 0 when there is none."""
    try:
        text = site.read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    return _number(r"^\s*{0} (\d+)s;$".format(directive), text)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found.group(1)) if found else 0


def live_slot(layout: Layout) -> Optional[str]:
    """Return the slot that new connections go to, or None before the first.

    /run is emptied by a reboot, and a hand may have turned the link to a slot that
    does not listen; what the switch recorded for the next boot then tells.
    """
    recorded = _slot_of(_recorded_target(layout))
    try:
        linked = _slot_of(os.readlink(layout.live_link))
    except OSError:
        return recorded
    if linked and recorded and not layout.socket(linked).is_socket():
        return recorded if layout.socket(recorded).is_socket() else linked
    return linked or recorded


def _slot_of(target: str) -> Optional[str]:
    slot = target[: -len(".sock")] if target.endswith(".sock") else ""
    return slot if slot in SLOTS else None


def _recorded_target(layout: Layout) -> str:
    with contextlib.suppress(FileNotFoundError):
        words = layout.tmpfiles.read_text(encoding="utf-8").split()
        return words[-1] if words else ""
    return ""


def boot_record(layout: Layout, slot: str, group: str) -> str:
    """Return the tmpfiles.d text that restores directory and link at boot.

    systemd-tmpfiles-setup runs before sockets.target, so the link is there
    before the socket it names (tmpfiles.d(5), bootup(7)).
    """
    return (
        "# Written by the switch of slots: which one is live after a reboot.\n"
        "d {run} 0750 root {group}\n"
        "d {spare} 0750 root {group}\n"
        "L+ {spare_link} - - - - {slot}.sock\n"
        "L+ {link} - - - - {slot}.sock\n"
    ).format(
        run=layout.run_dir,
        spare=layout.spare_dir,
        spare_link=layout.spare_link,
        link=layout.live_link,
        group=group,
        slot=slot,
    )


def point_live_at(layout: Layout, slot: str) -> None:
    """Flip each link by one rename: no moment without a live socket."""
    for link in layout.links:
        temporary = link.parent / ".live.new"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to("{0}.sock".format(slot))
        os.replace(temporary, link)


def link_socket(layout: Layout, slot: str) -> None:
    """Make the name that a slot's socket has lost from the one that it has."""
    there = [each for each in layout.socket_names(slot) if each.is_socket()]
    for lost in layout.socket_names(slot):
        if lost not in there:
            os.link(there[0], lost)


def links_to(layout: Layout, slot: str) -> bool:
    """Tell whether both links lead to a slot."""
    target = "{0}.sock".format(slot)
    return all(
        link.is_symlink() and os.readlink(link) == target for link in layout.links
    )


def differences(
    before: Optional[SlotFiles], after: Optional[SlotFiles]
) -> Iterator[Dict[str, str]]:
    """Yield Ansible's diff entries from one set of slot files to another."""
    for name in SlotFiles.__dataclass_fields__:
        old = getattr(before, name) if before else ""
        new = getattr(after, name) if after else ""
        if old == new:
            continue
        header = "slot {0}".format(name.replace("_", " "))
        if name == HIDDEN:
            old, new = _without_values(old, ""), _without_values(new, old)
        yield diff_entry(header, old, new)


def diff_entry(header: str, before: str, after: str) -> Dict[str, str]:
    """Return one entry of Ansible's diff."""
    return {
        "before_header": header,
        "after_header": header,
        "before": before,
        "after": after,
    }


def _without_values(environment: str, known: str) -> str:
    """Name the variables and hide the values, marking those not in ``known``."""
    lines = []
    for line in environment.splitlines():
        assigned = _ASSIGNED.match(line)
        name = assigned.group() if assigned else ""
        mark = "hidden" if not known or line in known.splitlines() else "hidden, new"
        lines.append("{0}({1})\n".format(name, mark))
    return "".join(lines)
