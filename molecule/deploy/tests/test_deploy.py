"""What a converged host looks like: units, sockets, processes, both hops."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from conftest import ROOT, Deploy, Host, Script, Slots

SERVICES = ["alpha", "beta"]


def show(host: Host, unit: str, *names: str) -> dict[str, str]:
    """Return a unit's properties as systemd has them in force."""
    text = host.check_output("systemctl show -p %s %s", ",".join(names), unit)
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize("service", SERVICES)
def test_live_slot_runs_and_the_other_does_not(slots: Slots, service: str) -> None:
    assert slots(service) == {"live": "blue", "blue": "active", "green": "inactive"}


@pytest.mark.parametrize("service", SERVICES)
def test_unit_properties_in_force(host: Host, service: str) -> None:
    unit = show(
        host,
        f"{service}@blue.service",
        "User",
        "KillMode",
        "Restart",
        "TimeoutStopUSec",
        "LimitNOFILE",
        "NoNewPrivileges",
        "ProtectSystem",
        "MemoryDenyWriteExecute",
        "UnitFileState",
    )
    assert unit["User"] == service
    assert unit["KillMode"] == "mixed"
    assert unit["Restart"] == "always"
    # R 5 s, so G = 10 s and S = 2 * G + 10 s.
    assert unit["TimeoutStopUSec"] == "30s"
    # Half as many nginx workers as processors.
    nginx_workers = max(1, int(host.check_output("nproc")) // 2)
    assert int(unit["LimitNOFILE"]) == nginx_workers * 4096 + 1024
    assert unit["NoNewPrivileges"] == "yes"
    assert unit["ProtectSystem"] == "strict"
    assert unit["MemoryDenyWriteExecute"] == "yes"
    assert unit["UnitFileState"] == "enabled"


def test_exposure_is_small(host: Host) -> None:
    last = host.check_output(
        "systemd-analyze security alpha@blue.service"
    ).splitlines()[-1]
    exposure = float(last.split(":")[1].split()[0])
    assert exposure <= 1.5


@pytest.mark.parametrize("service", SERVICES)
def test_socket_is_nginxs_alone(host: Host, service: str) -> None:
    for path in (f"/run/{service}", f"/run/keepalive.{service}"):
        folder = host.file(path)
        assert (folder.user, folder.group, folder.mode) == ("root", "www-data", 0o750)
        assert host.file(f"{path}/live.sock").linked_to == f"{path}/blue.sock"
    socket = host.file(f"/run/{service}/blue.sock")
    assert socket.is_socket
    assert socket.inode == host.file(f"/run/keepalive.{service}/blue.sock").inode
    assert (socket.user, socket.group, socket.mode) == ("root", "www-data", 0o660)
    # A user in neither group is refused by the kernel.
    assert host.run("runuser -u nobody -- ls /run/%s/blue.sock", service).rc != 0


@pytest.mark.parametrize("service", SERVICES)
def test_processes_run_as_the_services_user(host: Host, service: str) -> None:
    pid = show(host, f"{service}@blue.service", "MainPID")["MainPID"]
    assert host.check_output("ps -o user= -p %s", pid).strip() == service
    workers = host.check_output("ps -o user= --ppid %s", pid).split()
    wanted = 1 if service == "beta" else max(2, int(host.check_output("nproc")))
    assert workers == [service] * wanted


def test_release_is_roots_and_read_only_to_the_service(host: Host) -> None:
    release = host.check_output(
        "readlink -f /srv/alpha/releases/$(cat /etc/alpha/blue/release)"
    )
    assert host.file(release).user == "root"
    attempt = host.run("runuser -u alpha -- touch %s/app/x", release)
    assert attempt.rc != 0


def test_release_from_git_has_no_history(host: Host) -> None:
    (app,) = host.check_output("ls -d /srv/beta/releases/*/app").split()
    assert host.file(f"{app}/pyproject.toml").exists
    assert not host.file(f"{app}/.git").exists


def test_secrets_are_roots_alone(host: Host) -> None:
    environment = host.file("/etc/beta/blue/environment")
    assert (environment.user, environment.mode) == ("root", 0o600)


def test_environment_value_arrives_as_it_was_given(script: Script) -> None:
    body = json.loads(script("get.py", host="beta.test", path="/")["body"])
    assert body["version"] == '2 "quoted" $HOME %i \\ \''


def test_nginx_keeps_connections_by_the_chain(host: Host) -> None:
    config = host.check_output("nginx -T 2>/dev/null")
    site = config.partition("upstream keepalive_alpha {")[2]
    upstream = " ".join(site.partition("}")[0].split())
    # R 5 s, Ku 2 s, D 15 s: a connection lives L = 15 - 2 - 5 - 5 s.
    for directive in (
        "server unix:/run/alpha/live.sock max_fails=1 fail_timeout=1s;",
        2 * " server unix:/run/keepalive.alpha/live.sock max_fails=0 backup;",
        "keepalive 128;",
        "keepalive_requests 3000;",
        "keepalive_time 3s;",
        "keepalive_timeout 2s;",
    ):
        assert directive in upstream
    assert "proxy_http_version 1.1;" in site
    assert "proxy_set_header Connection $keepalive_connection;" in site


def test_off_is_off_on_every_version(host: Host) -> None:
    config = host.check_output("nginx -T 2>/dev/null")
    upstream = config.partition("upstream keepalive_beta {")[2].partition("}")[0]
    version = host.check_output("nginx -v 2>&1").rpartition("/")[2].split()[0]
    numbers = tuple(int(part) for part in version.split("."))
    assert ("keepalive 0;" in upstream) == (numbers >= (1, 29, 7))


def test_gunicorn_follows_the_chain(host: Host) -> None:
    config = host.file("/etc/alpha/blue/gunicorn.conf.py").content_string
    # nginx keeps an idle connection 2 s; the app outlasts it by a minute.
    assert "keepalive = 62\n" in config
    assert "control_socket_disable = True\n" in config
    assert 'worker_class = "uvicorn_worker.UvicornWorker"' in config.replace("'", '"')


def test_a_worker_listens_as_often_as_asked(host: Host) -> None:
    """Without that it has 16 files open; a lab host does not tell which."""
    main = show(host, "beta@blue.service", "MainPID")["MainPID"]
    files = host.check_output("ls /proc/$(pgrep -P %s)/fd", main).split()
    assert len(files) > 32


def test_forwarded_headers_are_overwritten(script: Script) -> None:
    spoofed = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "Forwarded": "for=6.6.6.6",
    }
    got = script("get.py", host="alpha.test", path="/whoami", headers=spoofed)
    seen = json.loads(got["body"])
    assert seen["client_host"] == "127.0.0.1"
    assert seen["scheme"] == "http"
    assert seen["forwarded"]["x-forwarded-for"] == "127.0.0.1"
    assert "forwarded" not in seen["forwarded"]


def test_a_trusted_proxy_is_believed(script: Script) -> None:
    headers = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https"}
    got = script("get.py", host="beta.test", path="/whoami", headers=headers)
    seen = json.loads(got["body"])
    assert (seen["client_host"], seen["scheme"]) == ("192.0.2.9", "https")


def test_a_body_over_the_limit_is_refused(script: Script) -> None:
    large = {"path": "/async/items/", "body": "x" * 1025}
    assert script("get.py", host="beta.test", **large)["status"] == 413
    assert script("get.py", host="alpha.test", **large)["status"] == 422


def test_json_is_compressed(script: Script) -> None:
    headers = {"Accept-Encoding": "gzip"}
    got = script("get.py", host="alpha.test", path="/openapi.json", headers=headers)
    assert got["headers"]["Content-Encoding"] == "gzip"


def test_the_sandbox_is_relaxed_where_asked(host: Host) -> None:
    unit, names = "beta@blue.service", ("ProtectHostname", "ReadWritePaths")
    assert show(host, unit, *names) == dict(zip(names, ("no", "/opt"), strict=True))


def test_a_killed_application_comes_back(host: Host, script: Script) -> None:
    for _time in range(2):
        host.check_output("systemctl kill --signal=KILL beta@blue.service")
        # The socket keeps queueing meanwhile.
        assert script("get.py", host="beta.test", path="/health")["status"] == 200


def test_tls_serves_the_same_and_says_so(script: Script) -> None:
    got = script("get.py", host="alpha.test", path="/whoami", tls=True)
    assert got["status"] == 200
    assert json.loads(got["body"])["scheme"] == "https"


def test_tls_offers_http2_and_resumes_sessions(host: Host) -> None:
    said = host.check_output(
        "echo | openssl s_client -connect 127.0.0.1:443 -servername alpha.test "
        "-alpn h2 -reconnect -tls1_2 2>/dev/null "
        "| grep -aE '^(ALPN protocol:|Reused, )'"
    )
    assert "ALPN protocol: h2" in said
    assert "Reused, TLSv1.2" in said


def test_unknown_name_gets_no_answer(script: Script) -> None:
    with pytest.raises(AssertionError, match="RemoteDisconnected"):
        script("get.py", host="unknown.test", path="/")


def test_wildcard_name_is_served(script: Script) -> None:
    assert script("get.py", host="eu.beta.test", path="/health")["status"] == 200


def test_response_header_is_added(script: Script) -> None:
    got = script("get.py", host="beta.test", path="/health")
    assert got["headers"]["X-Frame-Options"] == "DENY"


def test_json_log_is_json(host: Host, script: Script) -> None:
    script("get.py", host="beta.test", path="/health?log=me")
    # nginx writes it when the answer has been sent.
    host.check_output(
        "timeout 20 sh -c 'until grep -q log=me /var/log/nginx/beta.access.log;"
        " do sleep 0.2; done'"
    )
    lines = host.file("/var/log/nginx/beta.access.log").content_string.splitlines()
    found = [json.loads(line) for line in lines]
    assert [each["status"] for each in found if each["uri"] == "/health?log=me"] == [
        200
    ]


def test_status_is_on_loopback_only(host: Host, script: Script) -> None:
    got = script("get.py", host="localhost", path="/status", port=8404)
    assert "Active connections" in got["body"]
    listening = host.check_output("ss -Hltn 'sport = :8404'")
    assert listening.split()[3] == "127.0.0.1:8404"


def test_websocket_is_upgraded(host: Host) -> None:
    script = (
        "import socket\n"
        "s = socket.create_connection(('127.0.0.1', 80), 5)\n"
        "s.sendall(b'GET /ws HTTP/1.1\\r\\nHost: alpha.test\\r\\n'\n"
        " b'Upgrade: websocket\\r\\n'\n"
        " b'Connection: Upgrade\\r\\nSec-WebSocket-Version: 13\\r\\n'\n"
        " b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n')\n"
        "head = s.recv(4096)\n"
        "assert b' 101 ' in head, head\n"
        "s.sendall(b'\\x81\\x82\\x00\\x00\\x00\\x00hi')\n"
        "print(s.recv(4096))\n"
    )
    assert "hi" in host.check_output("python3 -c %s", script)


@pytest.mark.parametrize(
    ("service", "headers"),
    [("alpha", {"Accept": "text/event-stream"}), ("beta", {})],
    ids=["by_header", "by_path"],
)
def test_events_arrive_one_by_one(
    script: Script, service: str, headers: dict[str, str]
) -> None:
    path = "/events?interval=1&count=3"
    got = script("get.py", host=f"{service}.test", path=path, headers=headers)
    assert got["body"].count("data:") == 3
    # Buffered, the first would come with the last, two seconds later.
    assert got["seconds_to_first_line"] < 1.0


def test_check_mode_on_a_converged_host_changes_nothing(
    deploy: Deploy, name: str
) -> None:
    run = deploy("--check", "--diff")
    assert run.status == 0, run.why
    assert run.stats(name)["changed"] == 0


# What follows is the controller's to do, whatever the host.
@pytest.mark.on_hosts("n130")
def test_check_mode_tells_what_would_change(
    deploy: Deploy, name: str, slots: Slots
) -> None:
    before = slots("alpha")
    run = deploy("--check", "--diff", fastapi_service_upstream_idle_s=3)
    assert run.status == 0, run.why
    changed = {task for task, found in run.results(name) if found.get("changed")}
    assert {task.partition(" | ")[0].rpartition(" ")[2] for task in changed} == {
        "switch",
        "site",
    }
    switch: dict[str, Any] = run.result(name, "switch | ")
    assert (switch["slot_from"], switch["slot_to"]) == ("blue", "green")
    assert "keepalive = 63" in json.dumps(switch["diff"])
    assert slots("alpha") == before


@pytest.mark.on_hosts("d12")
def test_numbers_and_switches_as_text_mean_the_same(deploy: Deploy, name: str) -> None:
    """``-e name=value`` on the command line gives text."""
    given = yaml.safe_load(
        (ROOT / "molecule/inventory/group_vars/scenarios.yml").read_text()
    )
    texts = {
        option: str(default).lower()
        for defaults in (ROOT / "roles").glob("*/defaults/main.yml")
        for option, default in yaml.safe_load(defaults.read_text()).items()
        if isinstance(default, (bool, int)) and option not in given
    }
    assert len(texts) > 20
    run = deploy(**texts)
    assert run.status == 0, run.why
    assert run.stats(name)["changed"] == 0


@pytest.mark.on_hosts("n130")
def test_second_converge_makes_few_remote_calls(deploy: Deploy, name: str) -> None:
    run = deploy("-vvv")
    assert run.stats(name)["changed"] == 0
    # With -vvv the SSH connection prints each command that it sends.
    calls = run.output.count("SSH: EXEC ssh ")
    assert 0 < calls <= 10
