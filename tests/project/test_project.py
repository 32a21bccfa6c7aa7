"""What a newcomer and a packager rely on: one location name, a lock that is whole, targets that explain themselves."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_workspace_and_pyproject_name_the_same_code_location():
    module = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    project = PYPROJECT["tool"]["dg"]["project"]
    assert (module["module_name"], module["location_name"]) == (
        project["code_location_target_module"],
        project["code_location_name"],
    )


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-demo.lock", "requirements-uv.lock"])
def test_every_locked_package_has_hashes_and_no_address(lock):
    text = (REPOSITORY / lock).read_text()
    packages = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert [package for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in text


def test_the_lock_has_every_direct_dependency():
    locked = {
        re.split(r"[=\[ ]", line)[0]
        for line in (REPOSITORY / "requirements.lock").read_text().splitlines()
        if line and line[0].isalnum()
    }
    wanted = [
        *PYPROJECT["project"]["dependencies"],
        *(each for extra in PYPROJECT["project"]["optional-dependencies"].values() for each in extra),
    ]
    names = {re.split(r"[\[<>=~ ]", each)[0].lower() for each in wanted} - {"fleet-pipeline"}
    assert names - locked == set()


def test_the_demo_installs_what_it_needs_and_no_developers_tools_in_the_versions_that_were_tested():
    def pinned(lock):
        return dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;]+)", (REPOSITORY / lock).read_text(), re.MULTILINE))

    demo = pinned("requirements-demo.lock")
    assert demo.items() <= pinned("requirements.lock").items()
    assert {"dagster-webserver", "ministack", "duckdb", "awsiotsdk"} <= demo.keys()
    assert not {"pytest", "mypy", "ruff", "polars", "playwright", "pandas", "moto", "dagster-postgres"} & demo.keys()


def test_make_explains_its_targets():
    said = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert {"demo", "ui", "test", "check"} <= {line.split()[1] for line in said.splitlines()}


def test_annotations_are_evaluated_as_dagster_needs_them():
    sources = [path for folder in ("fleet_pipeline", "lambda") for path in (REPOSITORY / folder).rglob("*.py")]
    assert sources
    assert [path for path in sources if "from __future__ import annotations" in path.read_text()] == []


def test_the_licences_of_all_that_the_image_installs_are_known():
    """`make audit` writes them. What Windows alone needs is not installed here, and so has none."""

    def plain_name(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    locked = re.findall(
        r"^([\w.-]+)(?:\[[^]]*\])?==[^ ;]+(.*)", (REPOSITORY / "deploy" / "requirements.lock").read_text(), re.MULTILINE
    )
    wanted = {plain_name(name) for name, marker in locked if not re.search("== '(win32|Windows)'", marker)}
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (REPOSITORY / "deploy" / "licences.md").read_text().splitlines()[2:]
    ]
    assert wanted <= {plain_name(name) for name, _, _ in rows} <= {plain_name(name) for name, _ in locked}
    assert [
        row for row in rows if not row[2] or "UNKNOWN" in row[2] or re.search(r"\bA?GPL", row[2].replace("LGPL", ""))
    ] == []


@pytest.mark.whole
def test_a_process_that_loads_the_code_location_does_not_load_what_few_of_its_runs_need():
    unwanted = ["pandas", "duckdb", "polars", "pyiceberg", "matplotlib", "ministack"]
    look = f"import sys, fleet_pipeline.definitions; print(*(name for name in {unwanted} if name in sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", look], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout.split()
        == []
    )
