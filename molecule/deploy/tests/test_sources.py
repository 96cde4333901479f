"""A pinned package from a folder of wheels, on a host that reaches no index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, Deploy, Host, Script

pytestmark = pytest.mark.on_hosts("d13")
DEFAULTS = yaml.safe_load(
    (ROOT / "roles/fastapi_service/defaults/main.yml").read_text()
)


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)


@pytest.fixture(scope="module")
def wheel_dir(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that gamma needs, for the host's own Python."""
    folder = tmp_path_factory.mktemp("wheels")
    program = "import sys; print('{}.{}'.format(*sys.version_info))"
    version = host.check_output("python3 -c %s", program)
    demo = ROOT / "examples/demo_app"
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(demo))
    wanted = DEFAULTS["fastapi_service_server_packages"]
    target = ["--python-version", version, "--only-binary", ":all:"]
    lines = (demo / "requirements.in").read_text().splitlines()
    needed = [line for line in lines if line and not line.startswith("#")]
    pip("download", "--dest", str(folder), *target, *wanted, *needed)
    return folder


def test_package_from_wheels_without_an_index(
    host: Host, deploy: Deploy, name: str, script: Script, wheel_dir: Path
) -> None:
    gamma = {
        "fastapi_service_name": "gamma",
        "fastapi_service_source_path": "",
        "fastapi_service_package": "keepalive-demo==1.0.0",
        "fastapi_service_requirements": "",
        "fastapi_service_wheel_dir": str(wheel_dir),
        # Whatever reached for an index would fail on this one.
        "fastapi_service_index_url": "https://127.0.0.1:1/",
        "fastapi_service_server_names": ["gamma.test"],
        # What the first two services do not show.
        "fastapi_service_worker_class": "asgi",
        "fastapi_service_tls_redirect": True,
        "fastapi_service_tls_hsts_max_age_s": 300,
        # Unquoted `off` in YAML.
        "fastapi_service_access_log": False,
    }
    run = deploy(**gamma)
    assert run.status == 0, run.why
    plain = script("get.py", host="gamma.test", path="/health?a=1")
    assert plain["status"] == 308
    assert plain["headers"]["Location"] == "https://gamma.test/health?a=1"
    got = script("get.py", host="gamma.test", path="/health", tls=True)
    assert got["status"] == 200
    assert got["headers"]["Strict-Transport-Security"] == "max-age=300"
    assert not host.file("/var/log/nginx/gamma.access.log").exists
    assert deploy(**gamma).stats(name)["changed"] == 0
    assert deploy(**gamma, fastapi_service_state="absent").status == 0
