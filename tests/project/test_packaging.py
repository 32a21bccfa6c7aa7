"""The wheel is whole: installed away from the checkout it plans the same fleet, hook included; without the hook it plans nothing."""

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER, NAME, sha256_of, source_folder, zipped
from fleet_pipeline.model.errors import HookMissing

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The interpreter of an environment that has the wheel, and of this one its dependencies alone: `.pth` files of a folder on the path are not read."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(packages),
            str(wheel),
        ],
        check=True,
        timeout=300,
    )
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin" / "python"


@pytest.mark.whole
def test_the_wheel_holds_the_hook_byte_for_byte_and_that_the_package_is_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    hook = {path.name: path.read_bytes() for path in HOOK_FOLDER.glob("*.py")}
    assert {name: files.get(f"fleet_pipeline/{NAME}/{name}") for name in hook} == hook
    assert "fleet_pipeline/py.typed" in files
    assert any(name.endswith("licenses/LICENSE") for name in files)


@pytest.mark.whole
def test_an_installed_wheel_makes_a_project_that_dagster_loads_and_plans_the_same_fleet_as_the_checkout(
    installed, tmp_path
):
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    code = "import fleet_pipeline.cloud.kinds.function as f; print(f.__file__); print(f.sha256_of(f.zipped(f.HOOK_FOLDER)))"
    where, sha256 = subprocess.run([installed, "-c", code], check=False, **run).stdout.split("\n")[:2]
    assert Path(where).is_relative_to(installed.parents[1])
    assert sha256 == sha256_of(zipped(HOOK_FOLDER))
    made = subprocess.run([installed, "-m", "fleet_pipeline", "init"], check=False, **run)
    assert made.returncode == 0, made.stdout + made.stderr
    loaded = subprocess.run(
        [installed, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"], check=False, **run
    )
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert "Validation successful" in loaded.stdout + loaded.stderr
    try:
        plan = subprocess.run([installed, "-m", "fleet_pipeline", "plan"], check=False, **run)
        assert plan.returncode == 2, plan.stdout + plan.stderr
        assert "Lambda function" in plan.stdout
    finally:
        subprocess.run([installed, "-m", "fleet_pipeline", "local", "reset", "--yes"], check=False, **run)


SECOND = {
    "pyproject.toml": """
[project]
name = "second"
version = "0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "second"
registry_modules = []
""",
    "second/__init__.py": "",
    "second/defs/__init__.py": "",
    "second/definitions.py": """
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
}
"""Somebody's own project, as `dg init` begins it."""

PROD = """
type: fleet_pipeline.FleetComponent
attributes:
  environment: prod
  bucket: "acme-{{ 1 + 1 }}"
  rule_keys: [engine]
  key_prefix: [prod]
"""


@pytest.mark.whole
def test_from_the_wheel_dg_scaffolds_a_fleet_loads_it_beside_another_and_names_an_unknown_attribute(
    installed, tmp_path
):
    def dg(*words, fails=False):
        code = "import sys; from dagster_dg_cli.cli import main; sys.argv[0] = 'dg'; main()"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
        done = subprocess.run(
            [installed, "-c", code, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert bool(done.returncode) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    for name, text in SECOND.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    dg("scaffold", "defs", "fleet_pipeline.FleetComponent", "dev")
    (tmp_path / "second/defs/prod").mkdir()
    (tmp_path / "second/defs/prod/defs.yaml").write_text(PROD)
    dg("check", "defs")
    (tmp_path / "second/defs/prod/defs.yaml").write_text(PROD.replace("rule_keys", "rule_keyz"))
    assert "rule_keyz" in dg("check", "yaml", fails=True)


@pytest.mark.parametrize("holds", [None, [], ["serials.py"], ["lambda_function.txt"]])
def test_a_folder_without_the_function_is_an_error_and_never_a_zip(tmp_path, holds):
    folder = tmp_path / NAME
    if holds is not None:
        folder.mkdir()
        for name in holds:
            (folder / name).touch()
    with pytest.raises(HookMissing, match=NAME):
        zipped(folder)


def test_a_package_without_the_hook_looks_for_it_in_the_checkout(tmp_path):
    package = tmp_path / "fleet_pipeline"
    assert source_folder(package) == tmp_path / "lambda" / NAME
    (package / NAME).mkdir(parents=True)
    assert source_folder(package) == package / NAME
