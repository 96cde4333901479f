# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.keepalive.fastapi.plugins.action import benchmark_report
from ansible_collections.keepalive.fastapi.plugins.modules import (
    benchmark_report as documented,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils import libraries
from ansible_collections.keepalive.fastapi.tests.unit.plugins.plugin_utils import (
    benchmark_study,
)

ROOT = Path(__file__).parents[4]


def run(folder: Path, *, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Run the action plugin by itself, in a playbook of ``folder``."""
    study = benchmark_study.Study()
    args = {
        "study": "client_keepalive",
        "title": study.title,
        "dest": "made/reports",
        "cases": study.cases,
        "hosts": study.hosts,
        **given,
    }
    loader = DataLoader()
    loader.set_basedir(str(folder))
    task = MagicMock(args=args, async_val=0, check_mode=check_mode)
    connection = MagicMock()
    connection._shell.tmpdir = None
    action = benchmark_report.ActionModule(
        task, connection, MagicMock(), loader, MagicMock()
    )
    result: dict[str, Any] = action.run(task_vars={})
    return result


def test_a_report_is_written(tmp_path: Path) -> None:
    result = run(tmp_path)
    folder = tmp_path / "made/reports"
    assert result["changed"]
    assert result["files"] == [
        str(folder / name)
        for name in ("benchmark.json", "benchmark.md", "benchmark.html")
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        Path(name).name for name in result["files"]
    )
    written = json.loads((folder / "benchmark.json").read_text())
    assert written["schema_version"] == 1
    assert written["collection_version"] == version()
    (comparison,) = result["comparisons"]
    assert comparison.pop("host") == "web1"
    assert comparison == written["hosts"]["web1"]["comparisons"][0]
    assert "better" in result["table"]
    assert "better" in (folder / "benchmark.md").read_text()
    assert "</html>" in (folder / "benchmark.html").read_text()


def test_a_report_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    files = run(tmp_path)["files"]
    (tmp_path / "plain").touch()
    expected = (tmp_path / "plain").stat().st_mode
    assert {Path(name).stat().st_mode for name in files} == {expected}


def test_check_mode_writes_nothing_and_tells_the_same(tmp_path: Path) -> None:
    result = run(tmp_path, check_mode=True)
    assert not list(tmp_path.iterdir())
    assert result == run(tmp_path)


def test_check_mode_needs_no_runs(tmp_path: Path) -> None:
    assert run(tmp_path, check_mode=True, hosts={})["comparisons"] == []
    with pytest.raises(AnsibleActionFail, match="none has a run"):
        run(tmp_path, hosts={})


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: name == "scipy" or None)
    with pytest.raises(AnsibleActionFail, match="pip install hdrhistogram matplotlib"):
        run(tmp_path, check_mode=True, hosts={})


def test_an_old_report_outlives_a_failure(tmp_path: Path) -> None:
    files = run(tmp_path)["files"]
    before = [Path(name).read_text() for name in files]
    Path(files[2]).unlink()
    Path(files[2]).mkdir()
    with pytest.raises(AnsibleActionFail, match=r"benchmark\.html"):
        run(tmp_path, title="Other")
    assert not list((tmp_path / "made/reports").glob(".benchmark-*"))
    assert len(before) == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"confidence": 95}, "confidence: 95.0 is not between"),
        ({"cases": []}, "there is none"),
        ({"hosts": {"web1": {"runs": [{"case": "x"}]}}}, "lacks arm, round, position"),
        ({"cases": [{"name": "x"}]}, "arms"),
        ({"title_": "x"}, "title_"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(AnsibleError, match=says):
        run(tmp_path, **given)
    assert not list(tmp_path.iterdir())


def version() -> str:
    return str(yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"])


def test_the_version_of_an_installed_collection(tmp_path: Path) -> None:
    manifest = {"collection_info": {"version": "1.2.3"}}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest))
    assert benchmark_report.collection_version(str(tmp_path)) == "1.2.3"


def test_the_documentation_names_the_same_options() -> None:
    options = yaml.safe_load(documented.DOCUMENTATION)["options"]
    assert told(options, "suboptions") == told(benchmark_report.ARGUMENTS, "options")


def told(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """Return what both forms of an option say."""
    return {
        name: {
            **{key: option.get(key) for key in ("type", "elements", "default")},
            "required": option.get("required", False),
            "options": told(option.get(nested, {}), nested),
        }
        for name, option in options.items()
    }
