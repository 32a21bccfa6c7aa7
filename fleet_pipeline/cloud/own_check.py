"""The functions' code: the hook's own source, and where the settings name one, the company's check with what it
requires.

What it requires is installed by a command (`fleet hook vendor`) and not by a plan: a plan neither waits for a package
registry nor runs what comes from there.
"""

import ast
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER, zipped
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet

MODULE = "own_check.py"
"""The company's file in the zip."""

VENDOR = "vendor"
"""The folder in the zip of what the file requires."""

CODE_LIMIT = 50_000_000
"""Bytes of a zip that Lambda takes in a call. Source: AWS Lambda quotas."""

PLATFORM = "x86_64-manylinux2014"
"""Where Lambda runs the functions, as `uv` spells it."""

NOT_CODE = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
"""Files in which an installer notes what it did, another on each machine."""

INSTALLATION_LIMIT_S = 600


def code(fleet: Fleet) -> bytes:
    """Return the zip of a fleet's functions, the same bytes for the same files on every machine.

    Raises InvalidSetting for a check that could not be asked, for requirements that are not installed yet, and for more
    than Lambda takes.
    """
    if not fleet.hook_file:
        return zipped(HOOK_FOLDER)
    made = zipped(HOOK_FOLDER, {MODULE: _source(Path(fleet.hook_file)), **_vendored(fleet)})
    if len(made) > CODE_LIMIT:
        raise InvalidSetting(
            "FLEET_HOOK_REQUIREMENTS",
            fleet.hook_requirements,
            f"the zip has {len(made):,} bytes, and Lambda takes {CODE_LIMIT:,} in a call",
        )
    return made


def vendor(fleet: Fleet) -> Path:
    """Install what the company's check requires, for Lambda and not for this machine, and return the folder.

    What is installed already stays.

    Raises InvalidSetting where there are no requirements, or none of them can be installed.
    """
    if not fleet.hook_requirements:
        raise InvalidSetting(
            "FLEET_HOOK_REQUIREMENTS",
            None,
            "name the file of what the check requires, or leave it at the standard library and boto3",
        )
    folder = _folder(fleet)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / VENDOR
        done = subprocess.run(  # noqa: S603
            _installing(fleet, made), capture_output=True, text=True, check=False, timeout=INSTALLATION_LIMIT_S
        )
        if done.returncode:
            raise InvalidSetting(
                "FLEET_HOOK_REQUIREMENTS",
                fleet.hook_requirements,
                f"it cannot be installed: {_last_words(done.stderr)}",
            )
        made.mkdir(exist_ok=True)
        made.rename(folder)
    return folder


def _last_words(log: str) -> str:
    """Return the end of an installer's log, where it says why, on one line and without its advertisement."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("[notice]")]
    return " ".join(lines[-4:])[-500:]


def _installing(fleet: Fleet, target: Path) -> list[str]:
    python = fleet.hook_runtime.removeprefix("python")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        how = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python-platform",
            PLATFORM,
            "--python-version",
            python,
            "--only-binary",
            ":all:",
        ]
    else:
        architecture, _, system = PLATFORM.partition("-")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
            "--implementation",
            "cp",
        ]
        how = [*pip, "--platform", f"{system}_{architecture}", "--python-version", python, "--only-binary=:all:"]
    return [*how, "--target", str(target), "--requirement", fleet.hook_requirements]


def _folder(fleet: Fleet) -> Path:
    """Return where the requirements are installed: another folder for each text of theirs, and each Python."""
    wanted = f"{fleet.hook_runtime}\n{PLATFORM}\n".encode() + _read(
        "FLEET_HOOK_REQUIREMENTS", Path(fleet.hook_requirements)
    )
    return Path(fleet.home).absolute() / "hook" / hashlib.sha256(wanted).hexdigest()[:16]


def _vendored(fleet: Fleet) -> dict[str, bytes]:
    if not fleet.hook_requirements:
        return {}
    folder = _folder(fleet)
    if not folder.is_dir():
        raise InvalidSetting(
            "FLEET_HOOK_REQUIREMENTS",
            fleet.hook_requirements,
            "what it names is not installed: run `fleet hook vendor`",
        )
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and _is_code(path.relative_to(folder)))
    return {f"{VENDOR}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}


def _is_code(path: Path) -> bool:
    return (
        path.parts[0] != "bin"
        and "__pycache__" not in path.parts
        and path.suffix != ".pyc"
        and path.name not in {*NOT_CODE, ".lock"}
    )


def _source(file: Path) -> bytes:
    """Return the check's source.

    Raises InvalidSetting for what Python cannot read, or what has no function `verify` of three arguments.
    """
    source = _read("FLEET_HOOK_FILE", file)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise InvalidSetting("FLEET_HOOK_FILE", str(file), f"Python cannot read it: {error}") from error
    found = next((each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "verify"), None)
    if found is None or len(found.args.posonlyargs + found.args.args) != len(("serial", "parameters", "context")):
        raise InvalidSetting(
            "FLEET_HOOK_FILE",
            str(file),
            "it needs a function `verify(serial, parameters, context)` that returns True or a reason",
        )
    return source


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        where = f"looked for at {file.absolute()}; a relative name counts from the folder of fleet.toml"
        raise InvalidSetting(setting, str(file), f"it cannot be read: {error.strerror} ({where})") from error
