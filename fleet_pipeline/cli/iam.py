"""`fleet iam`: what the roles may do as which this package runs. They are for whoever administers the account to make."""

import json

import click

from fleet_pipeline.cloud.documents.filled import Document
from fleet_pipeline.cloud.documents.iam import compaction_policy, provisioner_policy
from fleet_pipeline.model.fleet import Fleet


@click.group()
def iam() -> None:
    """Print IAM policies of this fleet, for an administrator to attach. Calls nothing."""


@iam.command()
@click.pass_obj
def compaction(fleet: Fleet) -> None:
    """Print what compaction may do: read messages, add to the lake, keep its tables in step."""
    _print(compaction_policy(fleet))


@iam.command()
@click.pass_obj
def provisioner(fleet: Fleet) -> None:
    """Print what provisioning may do: make, change and remove this fleet's resources."""
    _print(provisioner_policy(fleet))


def _print(document: Document) -> None:
    click.echo(json.dumps(document, indent=2))
