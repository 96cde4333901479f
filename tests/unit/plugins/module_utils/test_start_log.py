# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reason for a failed start, found in logs of Gunicorn 27 on Debian 13."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.keepalive.fastapi.plugins.module_utils.start_log import (
    HEAD_LINES,
    TAIL_LINES,
    causes,
    excerpt,
)

IMPORT_ERROR = (Path(__file__).parent / "fixtures/journal_import_error.txt").read_text()


def test_the_exception_is_named_once_though_every_worker_met_it() -> None:
    assert IMPORT_ERROR.count("\nModuleNotFoundError: ") > 1
    assert causes(IMPORT_ERROR) == [
        "ModuleNotFoundError: No module named 'no_such_module'"
    ]


def test_a_traceback_that_begins_behind_a_stamp_is_read() -> None:
    log = (
        "[2026-01-01 10:00:00 +0000] [7] [ERROR] Traceback (most recent call last):\n"
        '  File "/srv/a/app/main.py", line 3, in lifespan\n'
        "    raise RuntimeError(why)\n"
        "RuntimeError: no database\n"
        "\n"
        "[2026-01-01 10:00:00 +0000] [7] [ERROR] Application startup failed. Exiting.\n"
    )
    assert causes(log) == ["RuntimeError: no database"]


def test_a_log_without_a_traceback_has_no_cause() -> None:
    assert causes("Starting a@blue.service...\nValueError: said, not raised\n") == []


def test_the_excerpt_keeps_the_applications_frames_alone() -> None:
    shown = excerpt(IMPORT_ERROR)
    assert 'app/unimportable.py", line 1, in <module>' in shown
    assert "    import no_such_module" in shown
    assert "/gunicorn/" not in shown
    assert "<frozen " not in shown


def test_repeated_lines_are_shown_once() -> None:
    flood = "".join(
        "[2026-01-01 10:00:{0:02} +0000] [{0}] [ERROR] No answer.\n".format(number)
        for number in range(60)
    )
    assert excerpt(flood).count("No answer.") == 1


def test_a_long_log_is_cut_in_the_middle() -> None:
    lines = ["line {0}".format(number) for number in range(100)]
    shown = excerpt("\n".join(lines)).splitlines()
    assert shown[:HEAD_LINES] == lines[:HEAD_LINES]
    assert shown[-TAIL_LINES:] == lines[-TAIL_LINES:]
    assert shown[HEAD_LINES] == "(and 65 lines more)"
    assert len(shown) == HEAD_LINES + TAIL_LINES + 1


def test_what_follows_a_restart_says_nothing_new() -> None:
    log = (
        "Starting.\nBroken.\na@blue.service: Scheduled restart job, at 1.\nStarting.\n"
    )
    assert excerpt(log).splitlines()[:2] == ["Starting.", "Broken."]
    assert excerpt(log).count("Starting.") == 1
