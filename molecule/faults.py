"""Faults to inject into a service's host, and what each may cost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import LAB, ROOT, Host, Run, run_playbook, slot_facts

SERVICE = "alpha"
PROGRAM = f"/usr/local/sbin/fastapi-{SERVICE}"
IGNORED = shutil.ignore_patterns("tests", "__pycache__", ".pytest_cache", ".ruff_cache")
BAD_APPS = """
import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI


@asynccontextmanager
async def connect(app):
    raise RuntimeError("the database is not there")
    yield


lifespan_raises = FastAPI(lifespan=connect)
answers_500 = FastAPI()
never_answers = FastAPI()


@answers_500.get("/health")
async def look_up():
    raise LookupError("the table is missing")


@never_answers.get("/health")
async def hang():
    await asyncio.sleep(3600)
"""
BAD_RELEASES = {
    "fails at import": "unimportable:app",
    "fails at start-up": "bad:lifespan_raises",
    "answers its probe with 500": "bad:answers_500",
    "never answers its probe": "bad:never_answers",
}
# So that one that hangs is given up soon.
SHORT = {
    "fastapi_service_start_timeout_s": 3,
    "fastapi_service_request_timeout_s": 1,
}


def copy_source(folder: Path) -> str:
    """Make another release's source: the demo application with one more file."""
    shutil.copytree(ROOT / "examples/demo_app", folder, ignore=IGNORED)
    (folder / "mark.txt").write_text(folder.name + "\n")
    return str(folder)


def write_bad_apps(folder: Path) -> None:
    """Write applications that do not start, or not as they should."""
    (folder / "bad.py").write_text(BAD_APPS)
    (folder / "unimportable.py").write_text("import no_such\n")
    shutil.copy(ROOT / "examples/demo_app/requirements.txt", folder)


@dataclass(frozen=True)
class Subject:
    """The service under test on one host; ``folder`` is the controller's, to fill."""

    name: str
    host: Host
    folder: Path

    def run(self, command: str, *words: str) -> str:
        return str(self.host.check_output(command, *words))

    def deploy(self, *options: str, **variables: object) -> Run:
        return run_playbook("site.yml", self.name, *options, **variables)

    def refused(self, **variables: object) -> str:
        """Deploy what cannot serve; return what the person who did was told."""
        run = self.deploy(**variables)
        assert run.status != 0, run.why
        return run.failure(self.name)

    @property
    def live(self) -> str:
        return slot_facts(self.host, SERVICE)["live"]

    @property
    def unit(self) -> str:
        return f"{SERVICE}@{self.live}.service"

    @property
    def master(self) -> str:
        return self.run("systemctl show --property MainPID --value %s", self.unit)

    @property
    def nginx_master(self) -> str:
        return self.run("cat /run/nginx.pid")

    def source(self, mark: str) -> str:
        """Return another release's source, the demo application with a new file."""
        return copy_source(self.folder / mark)

    def bad_source(self) -> str:
        source = self.folder / "bad"
        if not source.exists():
            source.mkdir()
            write_bad_apps(source)
        return str(source)

    def serves(self) -> bool:
        """Tell whether the service answers through nginx."""
        script = (ROOT / "molecule/get.py").read_text()
        asked = json.dumps({"host": f"{SERVICE}.test", "path": "/health"})
        done = self.host.run("python3 -c %s %s", script, asked)
        return bool(done.rc == 0 and json.loads(done.stdout)["status"] == 200)

    def wait_until_it_serves(self, limit_s: float = 30) -> None:
        give_up = time.monotonic() + limit_s
        while not self.serves():
            assert time.monotonic() < give_up, f"{self.name} does not serve again"
            time.sleep(0.5)

    def step_by_step(self, *words: str, **options: object) -> list[str]:
        """Run the service's program; return the steps it took, none if killed.

        One with fewer steps than ``kill_at`` ends before it is killed.
        """
        script = (ROOT / "molecule/stepwise.py").read_text()
        asked = {"program": PROGRAM, "words": words, **options}
        # ssh has no exit status for what a signal ended.
        done = self.host.run("python3 -c %s %s; echo $?", script, json.dumps(asked))
        *said, status = done.stdout.splitlines()
        if options.get("kill_at") and status == str(128 + signal.SIGKILL):
            return []
        assert status == "0", (done.stdout, done.stderr)
        return list(json.loads(said[-1]))

    def converge(self) -> list[str]:
        """Deploy until nothing is left to mend; return what was mended."""
        mended: list[str] = []
        for _time in range(3):
            changed = self.mend()
            mended += changed
            if not changed:
                return mended
        raise AssertionError(mended)

    def mend(self) -> list[str]:
        """Deploy; return what that has changed."""
        run = self.deploy()
        assert run.status == 0, run.why
        return [task for task, found in run.results(self.name) if found.get("changed")]


Inject = Callable[[Subject], None]


@dataclass(frozen=True)
class Fault:
    """``may_lose`` says of whose requests a loss is unavoidable, and why."""

    name: str
    inject: Inject
    may_lose: str = ""


def killed(pids: str) -> Inject:
    """Kill processes that a shell expression of unit and nginx names."""

    def inject(subject: Subject) -> None:
        command = pids.format(master=subject.master, nginx=subject.nginx_master)
        subject.run(f"kill -9 $({command})")
        time.sleep(2)

    return inject


def shell(command: str) -> Inject:
    """Run a command in which {live} and {idle} are the slots."""

    def inject(subject: Subject) -> None:
        live = subject.live
        idle = "green" if live == "blue" else "blue"
        unit = f"{SERVICE}@{live}.service"
        subject.run(command.format(live=live, idle=idle, unit=unit))
        time.sleep(2)

    return inject


def paused(pids: str, seconds: int) -> Inject:
    """Stop processes that a shell expression names, and let them go on."""
    return shell(
        f"pids=$({pids}) && kill -STOP $pids && sleep {seconds} && kill -CONT $pids"
    )


def bad_release(app: str) -> Inject:
    def inject(subject: Subject) -> None:
        told = subject.refused(
            fastapi_service_source_path=subject.bad_source(),
            fastapi_service_app=app,
            **(SHORT if app.startswith("bad:") else {}),
        )
        assert "live slot is untouched" in told, told

    return inject


def refused(phrase: str, **variables: object) -> Inject:
    """Deploy with variables that are refused with such a phrase."""

    def inject(subject: Subject) -> None:
        told = subject.refused(**variables)
        assert phrase in told, told

    return inject


def fails_after_the_flip(subject: Subject) -> None:
    """Deploy what answers its own probe, and nothing through nginx."""
    before = subject.live
    told = subject.refused(
        fastapi_service_environment={"APP_VERSION": "unreachable"},
        fastapi_service_probe_host="nobody.test",
    )
    assert "has gone back to release" in told, told
    assert subject.live == before


def disk_full(subject: Subject) -> None:
    subject.run("mkdir -p /srv/small && mount -t tmpfs -o size=20m tmpfs /srv/small")
    try:
        told = subject.refused(fastapi_service_releases_dir="/srv/small/releases")
        assert "disk is full" in told, told
    finally:
        subject.run("umount /srv/small && rmdir /srv/small")


def half_written_release(subject: Subject) -> None:
    """Interrupt a build where its files are there and its mark is not."""
    source = subject.source("half")
    built = subject.deploy(
        "--tags", "fastapi_service_release", fastapi_service_source_path=source
    )
    assert built.status == 0, built.why
    release = built.result(subject.name, "release | Build")["release_id"]
    subject.run(
        "rm /srv/alpha/releases/%s/release.json; "
        "find /srv/alpha/releases/%s/venv -name '*.py' -delete",
        release,
        release,
    )
    again = subject.deploy(fastapi_service_source_path=source)
    assert again.status == 0, again.why


def two_programs(subject: Subject) -> None:
    """Recycle twice at once: one does it, the other waits or is told."""
    argv = ["ssh", "-F", str(LAB / "ssh_config"), subject.name, f"{PROGRAM} recycle"]

    def recycle() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=120
        )

    with ThreadPoolExecutor() as pool:
        done = [each.result() for each in [pool.submit(recycle) for _time in range(2)]]
    assert all(each.returncode in (0, 75) for each in done), done
    assert any(each.returncode == 0 for each in done), done
    busy = [each.stderr for each in done if each.returncode == 75]
    assert all("another switch of alpha is under way" in said for said in busy)


def two_controllers(subject: Subject) -> None:
    """Deploy two releases at once."""

    def deploy(version: str) -> Run:
        return subject.deploy(fastapi_service_environment={"APP_VERSION": version})

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(deploy, ("left", "right")))
    assert any(run.status == 0 for run in runs), [run.output for run in runs]
    for run in runs:
        assert run.status == 0 or "is under way on this host" in run.output, run.why


def wrong_clock(shift_s: int) -> Inject:
    def inject(subject: Subject) -> None:
        assert subject.step_by_step("recycle", clock_shift_s=shift_s)

    return inject


def new_certificate(extra: str) -> Inject:
    """Swap the certificate as its renewal does: new files and a reload."""

    def inject(subject: Subject) -> None:
        with kept(subject, "/etc/ssl/lab"):
            subject.run(
                "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=alpha.test "
                f"{extra} -keyout /etc/ssl/lab/lab.key -out /etc/ssl/lab/lab.crt "
                "&& nginx -s reload"
            )
            time.sleep(4)
            served = (
                "echo | openssl s_client -connect 127.0.0.1:443 -servername alpha.test"
            )
            print_it = "openssl x509 -noout -fingerprint"
            assert subject.run(f"{served} 2>/dev/null | {print_it}") == subject.run(
                f"{print_it} -in /etc/ssl/lab/lab.crt"
            )
        subject.run("nginx -s reload")
        time.sleep(2)

    return inject


@contextmanager
def kept(subject: Subject, folder: str) -> Iterator[None]:
    subject.run("rm -rf /run/kept-folder && cp -a %s /run/kept-folder", folder)
    try:
        yield
    finally:
        subject.run(
            "cp -a /run/kept-folder/. %s/ && rm -r /run/kept-folder",
            folder,
        )


IN_ITS_HANDS = "requests in the hands of the process that was killed"
DOWN = "requests that arrive while it is down, and those in its hands"
# Both of two folders of root's, on purpose.
UNTIL_MENDED = "all requests until it is deployed again"
# Of a kill, what nginx may not send again.
NOT_REPEATED = {"POST kept", "POST new", "TLS", "WebSocket", "events"}
SERVER_PACKAGES = "fastapi_service_server_packages"
CERTIFICATE = "fastapi_service_tls_certificate"
EXPIRED = "-not_before 20240101000000Z -not_after 20250101000000Z"
CONFIG = "/etc/alpha/{live}/gunicorn.conf.py"
UNIT = "/etc/systemd/system/alpha@{live}.service"
EMPTIED = "rm -rf /run/alpha/* /run/keepalive.alpha/*"
APP_WORKER = "pgrep -P $(systemctl show -P MainPID {unit}) | head -1"
NGINX_WORKERS = "pgrep -P $(cat /run/nginx.pid)"
KILLS = [
    Fault("app worker killed", killed("pgrep -P {master} | head -1"), IN_ITS_HANDS),
    Fault("Gunicorn's master killed", killed("echo {master}"), IN_ITS_HANDS),
    Fault("slot killed", killed("echo {master}; pgrep -P {master}"), IN_ITS_HANDS),
    Fault("nginx worker killed", killed("pgrep -P {nginx} | head -1"), IN_ITS_HANDS),
    Fault("nginx's master killed", killed("echo {nginx}"), DOWN),
    Fault("all app workers killed", killed("pgrep -P {master}"), IN_ITS_HANDS),
]
REFUSALS = [
    *[Fault(f"release {what}", bad_release(app)) for what, app in BAD_RELEASES.items()],
    Fault("release fails after the flip", fails_after_the_flip),
    Fault("disk full while a release is built", disk_full),
    Fault("half-written release", half_written_release),
    Fault(
        "package index unreachable",
        refused(
            "cannot be installed",
            fastapi_service_index_url="http://127.0.0.1:9/simple",
            **{SERVER_PACKAGES: ["gunicorn==27.0.1", "uvicorn-worker==0.4.0"]},
        ),
    ),
    Fault(
        "package that does not exist",
        refused("cannot be", **{SERVER_PACKAGES: ["no-such-package-keepalive==1.0"]}),
    ),
    Fault(
        "certificate that is not there",
        refused("nothing.crt", **{CERTIFICATE: "/etc/ssl/lab/nothing.crt"}),
    ),
    Fault("port of nothing", refused("8099", fastapi_service_http_port=8099)),
]
HANDS = [
    Fault("/run/alpha emptied", shell("rm -rf /run/alpha/*")),
    Fault("live link removed", shell("rm /run/alpha/live.sock")),
    Fault("live link turned", shell("ln -sfn {idle}.sock /run/alpha/live.sock")),
    Fault("live socket removed", shell("rm /run/alpha/{live}.sock")),
    Fault("spare links removed", shell("rm /run/keepalive.alpha/*")),
    Fault("idle slot started", shell("systemctl start alpha@{idle}.socket || true")),
    Fault("record for boot removed", shell("rm /etc/tmpfiles.d/keepalive-alpha.conf")),
    Fault("history removed", shell("rm -r /etc/alpha/history")),
    Fault(
        "history damaged",
        shell("for f in /etc/alpha/history/*.json; do echo '{{' > $f; done"),
    ),
    Fault("live slot disabled", shell("systemctl disable alpha@{live}.service")),
    Fault("configuration changed", shell(f"echo '# by hand' >> {CONFIG}")),
    Fault("unit removed", shell(f"rm {UNIT} && systemctl daemon-reload")),
    Fault("site removed", shell("rm /etc/nginx/conf.d/alpha.conf")),
    Fault("program removed", shell("rm /usr/local/sbin/fastapi-alpha")),
    Fault("lock removed", shell("rm -f /run/keepalive-alpha.lock")),
    Fault("live slot restarted", shell("systemctl restart {unit}"), IN_ITS_HANDS),
    Fault("nginx reloaded", shell("nginx -s reload")),
    Fault("systemd re-executed", shell("systemctl daemon-reexec")),
    Fault("nginx's workers stopped for a time", paused(NGINX_WORKERS, 9)),
    Fault("an app worker stopped for a time", paused(APP_WORKER, 2)),
    Fault("both ways to the socket emptied", shell(EMPTIED), UNTIL_MENDED),
]
EVENTS = [
    Fault("two programs at once", two_programs),
    Fault("two controllers at once", two_controllers),
    Fault("wall clock an hour ahead", wrong_clock(3600)),
    Fault("wall clock an hour behind", wrong_clock(-3600)),
    Fault("certificate swapped", new_certificate("-days 30")),
    Fault("certificate expired", new_certificate(EXPIRED)),
]
FAULTS = [*KILLS, *REFUSALS, *HANDS, *EVENTS]
