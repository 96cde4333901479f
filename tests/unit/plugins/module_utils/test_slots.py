# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import pwd
import socket
import stat
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import slots
from ansible_collections.keepalive.fastapi.plugins.module_utils.config_text import (
    systemd_environment,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    SlotFiles,
)
from hypothesis import given
from hypothesis import strategies as st

FILES = SlotFiles(
    release="1f0c9a7d5be64e01\n",
    gunicorn_config="workers = 2\n",
    environment='TOKEN="old"\n',
    service_unit="[Service]\nExecStart=/x\n",
    socket_unit="[Socket]\nListenStream=/x\n",
)
# What a file holds may be any text that is one in UTF-8.
TEXTS = st.text(st.characters(codec="utf-8"))
VARIABLES = st.dictionaries(
    st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True),
    st.text("abc=\" '\\$#", max_size=20).map("s3cret{0}".format),
    max_size=4,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout("shop", tmp_path)


@pytest.mark.parametrize("name", ["a", "shop", "shop-2", "a" * 31])
def test_a_name_that_may_be(name: str) -> None:
    assert Layout(name).run_dir == Path("/run") / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Shop",
        "2shop",
        "-shop",
        "../shop",
        "a/b",
        "a b",
        "shop\n",
        "s_hop",
        "a" * 32,
    ],
)
def test_a_name_that_may_not_be(name: str) -> None:
    with pytest.raises(KeepaliveError, match="fastapi_service_name"):
        Layout(name)


def test_paths_and_units() -> None:
    layout = Layout("shop")
    assert layout.live_link == Path("/run/shop/live.sock")
    assert layout.socket("blue") == Path("/run/shop/blue.sock")
    assert layout.units("green") == ("shop@green.socket", "shop@green.service")
    paths = {name: str(path) for name, (path, _mode) in layout.files("green").items()}
    assert paths == {
        "release": "/etc/shop/green/release",
        "gunicorn_config": "/etc/shop/green/gunicorn.conf.py",
        "environment": "/etc/shop/green/environment",
        "service_unit": "/etc/systemd/system/shop@green.service",
        "socket_unit": "/etc/systemd/system/shop@green.socket",
    }


def test_the_other_slot() -> None:
    assert [slots.other(slot) for slot in slots.SLOTS] == ["green", "blue"]


def test_only_root_reads_the_environment(layout: Layout) -> None:
    slots.write_slot(layout, "blue", FILES)
    modes = {
        name: stat.S_IMODE(path.stat().st_mode)
        for name, (path, _mode) in layout.files("blue").items()
    }
    assert modes.pop("environment") == 0o600
    assert set(modes.values()) == {0o644}


@given(st.builds(SlotFiles, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_a_slot_is_read_as_it_was_written(files: SlotFiles) -> None:
    with TemporaryDirectory() as root:
        layout = Layout("shop", Path(root))
        slots.write_slot(layout, "blue", files)
        assert slots.read_slot(layout, "blue") == files
        assert slots.read_slot(layout, "green") is None


@pytest.mark.parametrize("name", SlotFiles.__dataclass_fields__)
def test_a_slot_without_one_of_its_files_is_none(layout: Layout, name: str) -> None:
    slots.write_slot(layout, "blue", FILES)
    layout.files("blue")[name][0].unlink()
    assert slots.read_slot(layout, "blue") is None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layout.config_dir / "file"
    slots.write_atomically(path, "old", 0o600)

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        slots.write_atomically(path, "new", 0o644)
    assert path.read_text() == "old"
    assert list(layout.config_dir.iterdir()) == [path]


def test_removing_a_slot_leaves_the_other(layout: Layout) -> None:
    slots.write_slot(layout, "blue", FILES)
    slots.write_slot(layout, "green", FILES)
    for _attempt in range(2):
        slots.remove_slot(layout, "blue")
        assert list(layout.config_dir.iterdir()) == [layout.config_dir / "green"]
        assert slots.read_slot(layout, "green") == FILES


def point(layout: Layout, slot: str) -> None:
    for folder in layout.socket_dirs:
        folder.mkdir(parents=True, exist_ok=True)
    slots.point_live_at(layout, slot)


def record(layout: Layout, slot: str) -> None:
    text = slots.boot_record(layout, slot, "www-data")
    slots.write_atomically(layout.tmpfiles, text, 0o644)


def test_no_slot_is_live_before_the_first_switch(layout: Layout) -> None:
    assert slots.live_slot(layout) is None
    assert not slots.has_traces(layout)


def test_the_link_tells_the_live_slot(layout: Layout) -> None:
    record(layout, "green")
    point(layout, "blue")
    assert os.readlink(layout.live_link) == "blue.sock"
    assert os.readlink(layout.spare_link) == "blue.sock"
    assert slots.links_to(layout, "blue")
    assert not slots.links_to(layout, "green")
    assert slots.live_slot(layout) == "blue"


def test_a_link_to_a_slot_that_does_not_listen_tells_nothing() -> None:
    # pytest's own folders may exceed what a socket's address holds.
    with TemporaryDirectory(prefix="slots") as folder:
        layout = Layout("shop", Path(folder))
        record(layout, "green")
        point(layout, "blue")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(layout.socket("green")))
        assert slots.live_slot(layout) == "green"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(layout.socket("blue")))
        assert slots.live_slot(layout) == "blue"


def test_without_the_link_the_record_for_the_next_boot_tells(layout: Layout) -> None:
    record(layout, "green")
    assert slots.live_slot(layout) == "green"
    assert slots.has_traces(layout)


@pytest.mark.parametrize("text", ["", "d /run/shop 0755 shop shop\n"])
def test_somebody_elses_record_tells_nothing(layout: Layout, text: str) -> None:
    slots.write_atomically(layout.tmpfiles, text, 0o644)
    assert slots.live_slot(layout) is None


def test_a_link_that_an_interrupted_flip_left_is_no_hindrance(layout: Layout) -> None:
    point(layout, "blue")
    (layout.run_dir / ".live.new").symlink_to("blue.sock")
    point(layout, "green")
    assert [path.name for path in layout.run_dir.iterdir()] == ["live.sock"]
    assert slots.live_slot(layout) == "green"


@pytest.mark.parametrize("name", SlotFiles.__dataclass_fields__)
def test_any_file_of_a_slot_is_a_trace(layout: Layout, name: str) -> None:
    path, mode = layout.files("green")[name]
    slots.write_atomically(path, "", mode)
    assert slots.has_traces(layout)


def test_what_is_somebody_elses_is_named(layout: Layout) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert slots.foreign_paths(layout, "shop") == []
    layout.state_dir.mkdir(parents=True)
    (layout.state_dir / "data").touch()
    layout.site.parent.mkdir(parents=True)
    layout.site.write_text("server { listen 80; }\n")
    assert slots.foreign_paths(layout, me) == [layout.site]
    assert slots.foreign_paths(layout, "shop") == [layout.site, layout.state_dir]
    slots.write_slot(layout, "blue", FILES)
    layout.site.write_text("# Written by Ansible, {0}\n".format(slots.SITE_MARK))
    assert slots.foreign_paths(layout, "shop") == []


def test_what_runs_a_service_by_itself_is_somebody_elses_without_a_mark(
    layout: Layout,
) -> None:
    for path in (layout.program, layout.own_unit("memory.timer")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
    found = slots.foreign_paths(layout, "shop")
    assert found == [layout.program, layout.own_unit("memory.timer")]
    layout.program.write_bytes(b"PK\0" + slots.PACKAGE)
    layout.own_unit("memory.timer").write_bytes(b"# " + slots.OWN_MARK)
    assert slots.foreign_paths(layout, "shop") == []


def test_times_are_read_from_what_is_in_force(tmp_path: Path) -> None:
    files = replace(FILES, gunicorn_config="keepalive = 30\ngraceful_timeout = 35\n")
    assert slots.gunicorn_seconds(files, "keepalive") == 30
    assert slots.gunicorn_seconds(files, "graceful_timeout") == 35
    assert slots.gunicorn_seconds(files, "timeout") == 0
    site = tmp_path / "shop.conf"
    assert slots.site_seconds(site, "keepalive_time") == 0
    site.write_text("upstream a {\n    keepalive 8;\n    keepalive_time 25s;\n}\n")
    assert slots.site_seconds(site, "keepalive_time") == 25


def test_the_next_boot_restores_folder_and_link() -> None:
    text = slots.boot_record(Layout("shop"), "green", "www-data")
    assert text.splitlines()[1:] == [
        "d /run/shop 0750 root www-data",
        "d /run/keepalive.shop 0750 root www-data",
        "L+ /run/keepalive.shop/live.sock - - - - green.sock",
        "L+ /run/shop/live.sock - - - - green.sock",
    ]


def test_differences_are_those_files_that_differ() -> None:
    assert list(slots.differences(FILES, FILES)) == []
    after = replace(FILES, gunicorn_config="workers = 4\n")
    assert list(slots.differences(FILES, after)) == [
        {
            "before_header": "slot gunicorn config",
            "after_header": "slot gunicorn config",
            "before": "workers = 2\n",
            "after": "workers = 4\n",
        }
    ]
    assert len(list(slots.differences(None, FILES))) == 5
    assert len(list(slots.differences(FILES, None))) == 5


def test_a_changed_secret_is_marked_and_not_shown() -> None:
    after = replace(FILES, environment='TOKEN="new"\nUSER="u"\n')
    (entry,) = slots.differences(replace(FILES, environment='USER="u"\n'), after)
    assert entry["before"] == "USER=(hidden)\n"
    assert entry["after"] == "TOKEN=(hidden, new)\nUSER=(hidden)\n"


def test_a_value_of_several_lines_is_not_shown() -> None:
    after = replace(FILES, environment='KEY="-----BEGIN\ns3cret\n-----END"\n')
    (entry,) = slots.differences(FILES, after)
    assert entry["after"] == "KEY=(hidden, new)\n(hidden, new)\n(hidden, new)\n"


@given(VARIABLES, VARIABLES)
def test_no_secret_is_ever_shown(old: Dict[str, str], new: Dict[str, str]) -> None:
    before = replace(FILES, environment=systemd_environment(old))
    after = replace(FILES, environment=systemd_environment(new))
    for pair in ((before, after), (None, after), (before, None)):
        shown = json.dumps(list(slots.differences(*pair)))
        assert "s3cret" not in shown
        assert all(name in shown for name in set(old) ^ set(new) if None not in pair)
