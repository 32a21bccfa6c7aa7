"""`fleet init`: the files of a project that has this package installed, and no checkout of it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import click

from fleet_pipeline.cli.shown import console
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import AlreadyThere, InvalidName

_IGNORED = ".dagster/\n.fleet/\n.logs_queue/\nlogs/\n*.key\n*.pem\n"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
def init(folder: Path) -> None:
    """Write a project's files into FOLDER: fleet.toml with every setting, dagster.yaml, workspace.yaml, .gitignore.

    No file is ever overwritten. Where one cannot be written, none of them stays.
    """
    wanted = {
        "fleet.toml": toml(),
        "dagster.yaml": _template("dagster.yaml"),
        "workspace.yaml": _template("workspace.yaml"),
        ".gitignore": _IGNORED,
    }
    if there := [name for name in wanted if (folder / name).exists()]:
        raise AlreadyThere(there, str(folder.absolute()))
    _write(folder, wanted)
    console.print(f"{', '.join(wanted)} are in {folder.absolute()}")
    console.print("Next, there: `fleet demo` goes the whole way on this machine, `fleet ui` shows it in Dagster.")


def _write(folder: Path, wanted: Mapping[str, str]) -> None:
    """Write all files or none: half a project would keep the next try from being made."""
    begun: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in wanted.items():
            begun.append(name)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        for name in begun:
            with suppress(OSError):
                (folder / name).unlink()
        why = f"a project's files cannot be written there ({error.strerror}), and none was; name a folder of yours"
        raise InvalidName("folder", str(folder.absolute()), why) from error


def toml() -> str:
    """Return a fleet.toml that has every setting, commented out, with its default, its meaning and its reason."""
    head = (
        "# The settings of one fleet. Take the # away before a name to choose another value. A variable FLEET_… "
        "wins over this file.\n"
        "# Tables, such as [tags], stand at the end: each line below a [table] belongs to it.\n"
    )
    return (
        head
        + "".join(
            # what JSON writes of these values, TOML reads
            f"\n# {meaning}\n# Default: {reason}\n# {name} = {json.dumps(value, ensure_ascii=False)}\n"
            for name, value, meaning, reason in sorted(settings.defaults(), key=_is_table)
        )
        + _RULE
    )


def _is_table(setting: tuple[str, object, str, str]) -> bool:
    """Say whether a setting is a table. Tables stand last: in TOML each line below a `[table]` belongs to it."""
    return isinstance(setting[1], dict) or setting[0] in {"rules", "parameters"}


_RULE = """
# A rule of your own: any topic filter, any SQL, further actions (docs/rules.md).
# Tables stand at the end of the file; each [[rules]] is one more rule.
#
# [[rules]]
# key = "fast"
# sql = "SELECT *, topic(2) AS vehicle FROM 'vehicles/+/status' WHERE speed_kmh > 130"
# shards = 16  # for more than some 3,000 messages a second: raw objects in as many folders (docs/layouts.md)
#
# [[rules.actions]]
# kinesis = { streamName = "fast-vehicles", partitionKey = "${topic(2)}" }
"""


def _template(name: str) -> str:
    return (files("fleet_pipeline.cli") / "project" / name).read_text(encoding="utf-8")
