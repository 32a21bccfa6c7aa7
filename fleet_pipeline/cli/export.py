"""`fleet export`: the model of the cloud side in other tools' words."""

import json
from pathlib import Path

import click

from fleet_pipeline.cli.shown import console
from fleet_pipeline.cloud import own_check
from fleet_pipeline.cloud.operations.cloudformation import cloudformation as template_of
from fleet_pipeline.model.fleet import Fleet


@click.group()
def export() -> None:
    """Write the cloud side down for other tools. Asks nothing of AWS."""


@export.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("cloudformation"))
@click.pass_obj
def cloudformation(fleet: Fleet, folder: Path) -> None:
    """Write FOLDER/template.json, and FOLDER/hook.zip, which is to be put where the template's parameters say."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "template.json").write_text(json.dumps(template_of(fleet), indent=2) + "\n")
    (folder / "hook.zip").write_bytes(own_check.code(fleet))
    console.print(f"{folder}/template.json and {folder}/hook.zip")
