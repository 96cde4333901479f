# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.app_command import (
    Command,
    gunicorn_settings,
    parse_exec_start,
    recognise,
    uvicorn_settings,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.app_settings import (
    command_of,
    config_file,
    interpreter,
    load_settings,
    start_folder,
    with_environ,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import Process

# systemd 257: systemctl show --property ExecStart
EXEC_START = (
    "{ path=/opt/shop/venv/bin/gunicorn ; argv[]=/opt/shop/venv/bin/gunicorn -w 2 "
    "-k uvicorn.workers.UvicornWorker main:app -b 127.0.0.1:8000 ; ignore_errors=no ; "
    "start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
)
TITLE = ("gunicorn: master [main:app]",)
FOUND = {
    "keepalive": 65,
    "timeout": 30,
    "graceful_timeout": 60,
    "workers": 3,
    "max_requests": 1000,
    "backlog": 8192,
    "forwarded_allow_ips": "*",
    "worker_class": "uvicorn_worker.UvicornWorker",
    "version": "27.0.1",
}


def process(
    argv: Sequence[str] = (),
    environ: Optional[Mapping[str, str]] = None,
    cwd: str = "/",
) -> Process:
    return Process(
        pid=444,
        argv=tuple(argv),
        exe="/usr/bin/python3.13",
        cwd=cwd,
        environ=environ or {},
        uid=995,
        gid=33,
        groups=(33, 100),
        unit="shop.service",
        nofile=1024,
        started_at_s=0,
    )


class Loader:
    """A Runner that answers as the loader's script does."""

    def __init__(self, out: str = "", err: str = "", status: int = 0) -> None:
        self.answer = (status, out, err)
        self.calls: List[Tuple[Sequence[str], Optional[str], Dict[str, str]]] = []

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Tuple[int, str, str]:
        self.calls.append((argv, cwd, dict(env or {})))
        return self.answer


GOOD = "noise of the file\n\nkeepalive.fastapi: {0}\n".format(json.dumps(FOUND))


@pytest.mark.parametrize(
    ("argv", "server", "arguments"),
    [
        (["/v/bin/python3", "/v/bin/gunicorn", "-w", "2"], "gunicorn", ["-w", "2"]),
        (["/v/bin/python", "-m", "gunicorn", "app:a"], "gunicorn", ["app:a"]),
        (["/v/bin/uvicorn", "app:a"], "uvicorn", ["app:a"]),
        (["python", "/v/bin/fastapi", "run"], "fastapi", ["run"]),
        (["/v/bin/hypercorn", "app:a"], "hypercorn", ["app:a"]),
    ],
)
def test_servers_are_recognised(
    argv: List[str], server: str, arguments: List[str]
) -> None:
    found = recognise(argv)
    assert found
    assert (found.server, list(found.arguments)) == (server, arguments)


def test_others_are_not() -> None:
    assert recognise(["/usr/bin/python3", "main.py"]) is None
    assert recognise([]) is None


def test_a_title_is_gunicorns_and_its_command_is_in_the_unit() -> None:
    found = command_of(process(TITLE), {"ExecStart": EXEC_START})
    assert found
    assert list(found.arguments)[:2] == ["-w", "2"]
    hidden = command_of(process(TITLE), {})
    assert hidden == Command("gunicorn", (), ())
    assert parse_exec_start("nothing") == []


def test_a_title_hides_the_environment_that_the_unit_gave(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("# a comment\nA='from the file'\n")
    unit = {
        "Environment": 'A=1 "B=two words"',
        "EnvironmentFiles": "{0} (ignore_errors=no)".format(file),
    }
    found = with_environ(process(TITLE, {"garbage": ""}), unit).environ
    assert (found["A"], found["B"]) == ("from the file", "two words")
    told = process(["gunicorn"], {"A": "2"})
    assert with_environ(told, unit) is told


def test_flags_win_over_the_variable_and_defaults_fill_up() -> None:
    found = gunicorn_settings(
        ["-k", "uvicorn_worker.UvicornWorker", "--keep-alive=65", "app:a", "--paste"],
        {"GUNICORN_CMD_ARGS": "--keep-alive 5 -w 4", "FORWARDED_ALLOW_IPS": "*"},
        has_config=False,
    )
    assert (found.keepalive_s, found.workers, found.backlog) == (65, 4, 2048)
    assert found.forwarded_allow_ips == "*"
    assert found.source == "command line"


def test_a_file_not_read_leaves_unknown_what_no_flag_says() -> None:
    found = gunicorn_settings(["-w", "2"], {}, has_config=True)
    assert (found.workers, found.keepalive_s, found.worker_class) == (2, None, "")


def test_threads_make_sync_gthread() -> None:
    found = gunicorn_settings(["--threads", "4"], {}, has_config=False)
    assert found.worker_class == "gthread"


def test_uvicorn_has_defaults_variables_and_flags() -> None:
    found = uvicorn_settings("uvicorn", ["app:a", "--uds", "/run/x.sock"], {})
    assert (found.keepalive_s, found.workers, found.graceful_timeout_s) == (5, 1, None)
    environ = {"UVICORN_TIMEOUT_KEEP_ALIVE": "30", "WEB_CONCURRENCY": "3"}
    found = uvicorn_settings("uvicorn", ["app:a", "--backlog", "100"], environ)
    assert (found.keepalive_s, found.workers, found.backlog) == (30, 3, 100)
    assert uvicorn_settings("fastapi", ["run"], environ).keepalive_s == 5


def test_the_interpreter_is_the_virtual_environments(tmp_path: Path) -> None:
    python, script = tmp_path / "python", tmp_path / "gunicorn"
    for path, text in ((python, ""), (script, "#!{0}\n".format(python))):
        path.write_text(text)
        path.chmod(0o755)
    by_path = process(environ={"PATH": str(tmp_path)})
    assert interpreter(by_path, ["python", "-m"], "/") == str(python)
    assert interpreter(by_path, ["gunicorn"], "/") == str(python)
    assert interpreter(process(), ["./gunicorn"], str(tmp_path)) == str(python)
    assert interpreter(process(), ["/none/gunicorn"], "/") == "/usr/bin/python3.13"


def test_the_folder_is_where_it_began(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert start_folder(process(environ={"PWD": here}), {}) == here
    assert start_folder(process(cwd="/srv"), {"WorkingDirectory": here}) == here
    assert start_folder(process(cwd="/srv"), {"WorkingDirectory": "/no"}) == "/srv"


def test_the_configuration_file(tmp_path: Path) -> None:
    here = str(tmp_path)

    def path(*arguments: str) -> str:
        return config_file(Command("gunicorn", (), arguments), {}, here)

    assert path() == ""
    assert path("-c", "conf.py") == str(tmp_path / "conf.py")
    assert path("--config=file:/etc/conf.py") == "/etc/conf.py"
    assert path("-c", "python:shop.conf") == ""
    (tmp_path / "gunicorn.conf.py").write_text("")
    assert path() == str(tmp_path / "gunicorn.conf.py")


SHOP = Command("gunicorn", ["/none/gunicorn"], ["-c", "/etc/conf.py", "app:a"])


def load(loader: Optional[Loader], command: Command = SHOP) -> Tuple[Any, str]:
    secret = {"DSN": "hunter2", "NOTIFY_SOCKET": "/run/notify"}
    return load_settings(process(environ=secret), command, "/srv", loader)


def test_gunicorns_loader_runs_as_the_process_does() -> None:
    loader = Loader(GOOD)
    settings, unread = load(loader)
    ((argv, cwd, env),) = loader.calls
    assert {"--reuid=995", "--regid=33", "--groups=33,100"} <= set(argv)
    assert (cwd, env) == ("/srv", {"DSN": "hunter2"})
    assert "hunter2" not in " ".join(argv)
    assert (settings.source, settings.keepalive_s, unread) == ("gunicorn", 65, "")
    assert settings.config_file == "/etc/conf.py"


def test_a_loader_that_fails_tells_its_exception_and_no_secret() -> None:
    err = "Traceback\n  File x\nKeyError: 'postgresql://shop:hunter2@db'\n"
    settings, unread = load(Loader(err=err, status=1))
    assert (settings.source, settings.keepalive_s) == ("command line", None)
    assert unread == "KeyError"
    assert load(Loader(status=124))[1] == "exit status 124"


@pytest.mark.parametrize("said", ["[]", "{}", "nonsense", '{"version": null}', ""])
def test_what_is_no_answer_is_no_answer(said: str) -> None:
    settings, unread = load(Loader("keepalive.fastapi: {0}\n".format(said)))
    assert settings.source == "command line"
    assert unread


def test_nothing_is_executed_where_it_shall_not_be() -> None:
    settings, unread = load(None)
    assert settings.keepalive_s is None
    assert unread
    hidden = Loader(GOOD)
    load(hidden, Command("gunicorn", (), ()))
    assert hidden.calls == []
