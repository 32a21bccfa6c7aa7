"""`fleet privacy`: what is held where, whose, for how long, and who may read it, by the settings."""

from dataclasses import astuple

import click

from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.processing import HEAD, as_markdown, private_fields, record


@click.command()
@click.option("--markdown", is_flag=True, help="As a table for a document.")
@click.pass_obj
def privacy(fleet: Fleet, *, markdown: bool) -> None:
    """Say what this fleet holds where, whose it is, for how long and who may read it: by its settings, and no call.

    The roles are those of `fleet iam`. Why something is held, only its owner can say.
    """
    if markdown:
        click.echo(as_markdown(fleet))
        return
    for each in record(fleet):
        where, *said = (text.replace("`", "") for text in astuple(each))
        console.print(styled((where, "bold")), soft_wrap=True)
        for name, text in zip(HEAD[1:], said, strict=True):
            console.print(f"  {name + ':':<14}{text}", soft_wrap=True)
    console.print(styled(("private fields (FLEET_PRIVATE_COLUMNS)", "bold")))
    for line in private_fields(fleet) or ["none: every field of a message may become a column"]:
        console.print(f"  {line}", soft_wrap=True)
