# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.keepalive.fastapi.plugins.action.fastapi_release import (
    ActionModule,
)

REMOTE_DIR = "/remote/tmp"


class Task:
    """The action plugin run by itself, with a target that answers as told."""

    def __init__(self, playbook_dir: Path, answers: list[dict[str, Any]]) -> None:
        self.playbook_dir = playbook_dir
        self.answers = answers
        self.calls: list[dict[str, Any]] = []
        self.sent: dict[str, list[str]] = {}

    def run(self, **args: Any) -> dict[str, Any]:
        loader = DataLoader()
        loader.set_basedir(str(self.playbook_dir))
        task = MagicMock(args={"name": "shop", **args}, async_val=0, check_mode=False)
        connection = MagicMock()
        connection._shell.tmpdir = None
        action = ActionModule(task, connection, MagicMock(), loader, MagicMock())
        action._execute_module = self._execute_module
        action._make_tmp_path = MagicMock(return_value=REMOTE_DIR)
        action._transfer_file = self._transfer_file
        action._fixup_perms2 = MagicMock()
        result: dict[str, Any] = action.run(task_vars={})
        return result

    def _execute_module(self, *, module_args: dict[str, Any], **_: Any) -> Any:
        self.calls.append(dict(module_args))
        return dict(self.answers[len(self.calls) - 1])

    def _transfer_file(self, local: str, remote: str) -> None:
        with tarfile.open(local) as tar:
            self.sent[remote] = tar.getnames()


@pytest.fixture
def playbook_dir(tmp_path: Path) -> Path:
    (tmp_path / "src/.git").mkdir(parents=True)
    (tmp_path / "src/.git/HEAD").touch()
    (tmp_path / "src/main.py").touch()
    (tmp_path / "src/requirements.txt").touch()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a.whl").touch()
    return tmp_path


def test_known_release_costs_one_call_and_no_transfer(playbook_dir: Path) -> None:
    task = Task(playbook_dir, [{"changed": False}])
    assert task.run(source_path="src") == {"changed": False}
    assert len(task.calls) == 1
    assert len(task.calls[0]["content_digest"]) == 64
    assert "archive" not in task.calls[0]
    assert not task.sent


def test_unknown_release_is_sent_and_built(playbook_dir: Path) -> None:
    task = Task(playbook_dir, [{"needs_transfer": True}, {"changed": True}])
    assert task.run(source_path="src", wheel_dir="wheels") == {"changed": True}
    archive, wheels = (
        REMOTE_DIR + "/archive.tar.gz",
        REMOTE_DIR + "/wheels_archive.tar.gz",
    )
    assert task.sent == {archive: ["main.py", "requirements.txt"], wheels: ["a.whl"]}
    assert task.calls[1] == {
        **task.calls[0],
        "archive": archive,
        "wheels_archive": wheels,
    }


def test_refusal_of_the_target_sends_nothing(playbook_dir: Path) -> None:
    task = Task(playbook_dir, [{"failed": True, "msg": "no python"}])
    assert task.run(source_path="src")["failed"]
    assert not task.sent


def test_package_and_absent_need_nothing_from_the_controller(
    playbook_dir: Path,
) -> None:
    for args in ({"package": "shop==1"}, {"state": "absent", "source_path": "gone"}):
        task = Task(playbook_dir, [{"changed": True}])
        task.run(**args)
        assert task.calls == [{"name": "shop", **args}]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "exactly one of fastapi_service_source_path and"),
        ({"source_path": "src", "package": "a==1"}, "exactly one of"),
        ({"source_path": "gone"}, "source_path: .*/gone is not a directory"),
        ({"source_path": "src", "source_exclude": ["*"]}, "holds no file"),
        ({"source_path": "src", "requirements": "r.txt"}, "requirements: there is no"),
        ({"source_path": "src", "requirements": "../r.txt"}, "stay inside"),
        ({"source_path": "src", "wheel_dir": "src"}, "wheel_dir: .* holds no wheel"),
        ({"package": "shop"}, "not pinned"),
        ({"source_path": "src", "archive": "/x"}, "archive: set by the action"),
    ],
)
def test_bad_input_fails_before_anything_remote(
    playbook_dir: Path, args: dict[str, Any], says: str
) -> None:
    task = Task(playbook_dir, [])
    with pytest.raises(AnsibleActionFail, match=says):
        task.run(**args)
    assert not task.calls


@pytest.mark.parametrize("args", [{"keep": "many"}, {"sauce_path": "src"}])
def test_unknown_or_mistyped_argument_fails_before_anything_remote(
    playbook_dir: Path, args: dict[str, Any]
) -> None:
    task = Task(playbook_dir, [])
    with pytest.raises(AnsibleError, match=next(iter(args))):
        task.run(source_path="src", **args)
    assert not task.calls
