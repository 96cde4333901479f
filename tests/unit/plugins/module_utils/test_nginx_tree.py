# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    dump,
    load,
    parse,
    walk,
)

DUMP = Path(__file__).parent.joinpath("fixtures", "nginx_1_22_dump.txt").read_text()


def test_included_files_stand_where_they_are_included() -> None:
    found = [
        ([block.name for block in blocks], each.args, each.file)
        for blocks, each in walk(load(DUMP))
        if each.name == "listen" and each.args[0].endswith("8443")
    ]
    tls = "/etc/nginx/snippets/listen_tls.conf"
    assert found == [
        (["http", "server"], ["8443", "http2"], tls),
        (["http", "server"], ["[::]:8443", "http2"], tls),
    ]


def test_no_include_is_left() -> None:
    assert not [each for _blocks, each in walk(load(DUMP)) if each.name == "include"]


def test_a_file_that_includes_itself_ends() -> None:
    text = "# configuration file /etc/nginx/a.conf:\ninclude a.conf;\nuser x;\n"
    assert [each.name for each in load(text)][-1] == "user"


def test_what_is_written_means_the_same() -> None:
    tree = load(DUMP)
    again = parse(dump(tree))
    strip = [(len(blocks), each.words) for blocks, each in walk(tree)]
    assert strip == [(len(blocks), each.words) for blocks, each in walk(again)]


def test_quotes_are_kept_in_words_and_taken_off_arguments() -> None:
    (each,) = parse(r'add_header X "a \"b\" $c";')
    assert each.words[2] == r'"a \"b\" $c"'
    assert each.args == ["X", 'a "b" $c']


def test_no_dump_is_no_configuration() -> None:
    assert load("nginx: not found") == []
