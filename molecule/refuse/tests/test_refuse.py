"""Bad input is refused with its cause and the fix, and what serves is untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import write_bad_apps

from conftest import Deploy, Host, Run, Script, Slots

pytestmark = pytest.mark.on_hosts("d13")

SECRET = "hunter2"
# A changed slot too: were a site refused only after the switch, it would show.
CHANGED_SLOT = {"fastapi_service_environment": {"CHANGED": "yes"}}

REFUSED_AT_ONCE = [
    pytest.param(
        {"fastapi_service_workers": "many"},
        ["fastapi_service_workers", "many", "cannot be converted to an int"],
        id="variable_type",
    ),
    pytest.param(
        {"fastapi_service_sandbox": {"ProtectEverything": "yes"}},
        ["fastapi_service_sandbox.ProtectEverything", "ProtectSystem"],
        id="unknown_sandbox_directive",
    ),
    pytest.param(
        {"fastapi_service_chain_overrides": {"app_keepalive_s": 2}},
        [
            "fastapi_service_chain_overrides.app_keepalive_s = 2",
            "fastapi_service_upstream_idle_s = 2",
            "raise fastapi_service_chain_overrides.app_keepalive_s to at least 7",
        ],
        id="contradictory_timeouts",
    ),
    pytest.param(
        {"fastapi_service_server_names": ["alpha.test", "b.test; return 200 owned"]},
        ["fastapi_service_server_names", "b.test; return", "give a host name"],
        id="directive_in_server_name",
    ),
    pytest.param(
        {"fastapi_service_server_names": ["alpha.test; return 200 owned"]},
        ["fastapi_service_server_names", "alpha.test; return", "must be a host name"],
        id="directive_in_first_server_name",
    ),
    pytest.param(
        {"fastapi_service_response_headers": {"X-A": 'a";\nreturn 200 "owned'}},
        ["fastapi_service_response_headers.X-A", "U+000A", "one line of plain text"],
        id="directive_in_header_value",
    ),
    pytest.param(
        {"fastapi_service_response_headers": {"X-A a; return 200 owned; #": "a"}},
        ["fastapi_service_response_headers", "use letters, digits, '-' and '_'"],
        id="directive_in_header_name",
    ),
    pytest.param(
        {"fastapi_service_stream_paths": ["/x$1 { return 200 owned; } location /y"]},
        ["fastapi_service_stream_paths", "holds '$'", "remove it"],
        id="directive_in_stream_path",
    ),
    pytest.param(
        {"fastapi_service_probe_path": "/health\r\nX-Smuggled: 1"},
        ["fastapi_service_probe_path", "must be a path that begins with '/'"],
        id="header_in_probe_path",
    ),
    pytest.param(
        {"fastapi_service_environment": {"GREETING": f"{SECRET}\nLD_PRELOAD=/x.so"}},
        ["fastapi_service_environment.GREETING", "one line of plain text"],
        id="variable_in_environment_value",
    ),
    pytest.param(
        {"fastapi_service_tls_key": ""},
        ["fastapi_service_tls_certificate", "fastapi_service_tls_key", "set both"],
        id="certificate_without_key",
    ),
    pytest.param(
        {"fastapi_service_tls_key": "/etc/ssl/lab/none.key", **CHANGED_SLOT},
        [
            "cannot load certificate key",
            "/etc/ssl/lab/none.key",
            "No such file",
            "the configuration in force is untouched",
            "fastapi_service_tls_key (/etc/ssl/lab/none.key)",
        ],
        id="key_not_on_the_host",
    ),
    pytest.param(
        {"fastapi_service_worker_class": "sync"},
        ["fastapi_service_worker_class is 'sync'", "ignores keepalive", "use uvicorn"],
        id="worker_without_keepalive",
    ),
    pytest.param(
        {"fastapi_service_user": "root"},
        ['fastapi_service_user is "root"', "must be"],
        id="root_as_user",
    ),
    pytest.param(
        {"fastapi_service_name": "first", "fastapi_service_user": "alpha"},
        ["the server name alpha.test is another site's already", "_server_names"],
        id="name_of_another_service",
    ),
    pytest.param(
        {"fastapi_service_name": "ssh", "fastapi_service_server_names": ["a.test"]},
        ["/etc/ssh", "would be taken over by the service ssh", "Choose another"],
        id="name_of_another_program",
    ),
    pytest.param(
        {"fastapi_service_writable_paths": ["/opt\nExecStartPre=/x"]},
        ["fastapi_service_writable_paths", "one line of plain text"],
        id="directive_in_writable_path",
    ),
    pytest.param(
        {"fastapi_service_package": "demo==1.0"},
        [
            "Set exactly one of",
            "fastapi_service_source_path",
            'fastapi_service_package; they are "/',
            '"demo==1.0"',
        ],
        id="two_sources",
    ),
    pytest.param(
        {"fastapi_service_source_path": "", "fastapi_service_package": "demo"},
        ["fastapi_service_package: 'demo' is not pinned", "Use name==1.2.3"],
        id="package_not_pinned",
    ),
    pytest.param(
        {"fastapi_service_source_path": "/nonexistent/app"},
        ["fastapi_service_source_path: /nonexistent/app is not a directory", "correct"],
        id="missing_source",
    ),
]
CRASHES = [
    pytest.param(
        "unimportable:app",
        ["ended while it started", "ModuleNotFoundError: No module named 'no_such'"],
        id="import_fails",
    ),
    pytest.param(
        "bad:lifespan_raises",
        ["ended while it started", "RuntimeError: the database is not there"],
        id="lifespan_raises",
    ),
]
NEVER_READY = [
    pytest.param(
        "bad:answers_500",
        [
            "did not become ready within 3 s (fastapi_service_start_timeout_s)",
            "GET /health gave status 500 instead of 200",
            "LookupError: the table is missing",
            "fastapi_service_probe_path",
        ],
        id="probe_answered_500",
    ),
    pytest.param(
        "bad:never_answers",
        [
            "did not become ready within 3 s (fastapi_service_start_timeout_s)",
            "GET /health gave no answer",
            "fastapi_service_probe_path",
        ],
        id="probe_never_answered",
    ),
]


def told(run: Run, name: str) -> str:
    """Return what the one failed task told the person who ran it."""
    (failed,) = [found for _task, found in run.results(name) if found.get("failed")]
    items = [item["msg"] for item in failed.get("results", []) if item.get("failed")]
    return "\n".join([failed["msg"], *items])


def on_disk(host: Host, live: str) -> str:
    """Return paths, sizes and times of change of what makes the live slot serve."""
    return str(
        host.check_output(
            "find /etc/nginx /etc/alpha/%s /srv/alpha/releases/"
            "$(cat /etc/alpha/%s/release) /etc/systemd/system/alpha@%s* "
            "-printf '%%p %%y %%s %%C@\\n' | sort; ls -A /srv/alpha/releases; "
            "sha256sum /srv/alpha/releases/*/release.json "
            "/etc/tmpfiles.d/keepalive-alpha.conf",
            live,
            live,
            live,
        )
    )


def processes(host: Host, live: str) -> str:
    return str(
        host.check_output(
            "systemctl show --property MainPID,NRestarts,ActiveState alpha@%s.service;"
            "pgrep --parent $(cat /run/nginx.pid) || true; cat /run/nginx.pid",
            live,
        )
    )


Refused = Callable[..., str]


@pytest.fixture
def refused(
    host: Host, name: str, deploy: Deploy, slots: Slots, script: Script
) -> Refused:
    """Return a function that deploys bad input and expects that it harms nothing.

    It returns what the person who deployed was told.
    """

    def run(**variables: Any) -> str:
        before = slots("alpha")
        live = before["live"]
        disk, running = on_disk(host, live), processes(host, live)
        done = deploy(**variables)
        assert done.status != 0
        after = slots("alpha")
        assert after["live"] == live
        assert after[live] == "active"
        idle = "green" if live == "blue" else "blue"
        assert after[idle] in ("inactive", "failed")
        assert not host.service(f"alpha@{idle}.socket").is_running
        assert on_disk(host, live) == disk
        assert processes(host, live) == running
        assert script("get.py", host="alpha.test", path="/health")["status"] == 200
        assert SECRET not in done.output
        message = told(done, name)
        assert not message.startswith("Traceback")
        return message

    return run


def expect(message: str, phrases: list[str]) -> None:
    missing = [phrase for phrase in phrases if phrase not in message]
    assert not missing, message


# It takes as long as all others together.
@pytest.mark.on_hosts("d12")
@pytest.mark.parametrize(("variables", "phrases"), REFUSED_AT_ONCE)
def test_refused_before_anything_is_done(
    refused: Refused, variables: dict[str, Any], phrases: list[str]
) -> None:
    expect(refused(**variables), phrases)


@pytest.mark.parametrize("batch", ["all", "0", "-1"])
def test_no_number_of_hosts_at_a_time(name: str, deploy: Deploy, batch: str) -> None:
    done = deploy(fastapi_deploy_batch=batch)
    assert done.status != 0
    expect(done.output, [f"fastapi_deploy_batch is {batch}; set a number"])
    assert name not in done.report.get("stats", {})


def test_uninstallable_requirement(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("app = None\n")
    (tmp_path / "requirements.txt").write_text("no-such-package-keepalive==1.0\n")
    message = refused(fastapi_service_source_path=str(tmp_path))
    expect(
        message,
        [
            "fastapi_service_requirements: requirements.txt cannot be installed",
            "no-such-package-keepalive==1.0",
            "Check name and version",
            "The unfinished release was removed",
        ],
    )


@pytest.fixture(scope="module")
def bad_apps(deploy: Deploy, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the one release of all bad applications; return its source."""
    source = tmp_path_factory.mktemp("bad_apps")
    write_bad_apps(source)
    run = deploy(
        "--tags", "fastapi_service_release", fastapi_service_source_path=str(source)
    )
    assert run.status == 0, run.why
    return str(source)


@pytest.mark.parametrize(("app", "phrases"), CRASHES)
def test_application_that_crashes(
    refused: Refused, bad_apps: str, app: str, phrases: list[str]
) -> None:
    message = refused(fastapi_service_source_path=bad_apps, fastapi_service_app=app)
    expect(message, [*phrases, "live slot is untouched", "journalctl -u alpha@"])


@pytest.mark.parametrize(("app", "phrases"), NEVER_READY)
def test_application_that_is_never_ready(
    refused: Refused, bad_apps: str, app: str, phrases: list[str]
) -> None:
    message = refused(
        fastapi_service_source_path=bad_apps,
        fastapi_service_app=app,
        fastapi_service_start_timeout_s=3,
        # The stop of one that hangs waits for its request.
        fastapi_service_request_timeout_s=1,
    )
    expect(message, [*phrases, "live slot is untouched", "journalctl -u alpha@"])


@pytest.fixture
def small_disk(host: Host) -> Iterator[str]:
    host.check_output("mkdir -p /srv/small")
    host.check_output("mount -t tmpfs -o size=20m tmpfs /srv/small")
    yield "/srv/small/releases"
    host.check_output("umount /srv/small && rmdir /srv/small")


def test_full_disk(refused: Refused, host: Host, small_disk: str) -> None:
    message = refused(fastapi_service_releases_dir=small_disk)
    expect(message, ["disk is full", small_disk, "free some space"])
    assert host.check_output("find %s -mindepth 1 -not -name .lock", small_disk) == ""


@pytest.fixture
def taken_port(host: Host) -> Iterator[int]:
    host.check_output(
        "systemd-run --unit squatter --collect python3 -m http.server 8099"
    )
    host.check_output(
        "timeout 20 sh -c 'until ss -ltn | grep -q :8099; do sleep 0.2; done'"
    )
    yield 8099
    host.check_output("systemctl stop squatter.service")


def test_port_taken_by_another_program(refused: Refused, taken_port: int) -> None:
    taken = {"fastapi_service_http_port": taken_port, **CHANGED_SLOT}
    ports = "nginx_proxy_default_http_ports"
    expect(refused(**taken), [f"fastapi_service_http_port is 8099, which {ports} (80)"])
    expect(
        refused(nginx_proxy_default_http_ports=[80, taken_port], **taken),
        [
            "port 8099 is held by process python3",
            "stop that process, or change",
            f"its ports from {ports}",
        ],
    )


@pytest.mark.on_hosts("d12", "d13")
def test_a_good_deployment_then_finds_nothing_to_mend(
    deploy: Deploy, name: str
) -> None:
    run = deploy()
    assert run.status == 0, run.why
    assert run.stats(name)["changed"] == 0
