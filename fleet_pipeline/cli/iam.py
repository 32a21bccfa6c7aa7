"""`fleet iam`: what the roles may do as which this package runs.

They are for whoever administers the account to make.
"""

import json

import click

from fleet_pipeline.cloud.documents.filled import Document
from fleet_pipeline.cloud.documents.iam import (
    PROVISIONER,
    boundary_policy,
    compaction_policy,
    erasure_policy,
    key_policy,
    replay_policy,
    retention_policy,
    virtual_vehicle_policy,
)
from fleet_pipeline.model.fleet import Fleet


@click.group()
def iam() -> None:
    """Print IAM policies of this fleet, for an administrator to attach. Calls nothing."""


@iam.command()
@click.pass_obj
def boundary(fleet: Fleet) -> None:
    """Print the most that any role of the fleet may do: the permissions boundary that FLEET_ROLE_BOUNDARY names."""
    _print(boundary_policy(fleet))


@iam.command()
@click.pass_obj
def compaction(fleet: Fleet) -> None:
    """Print what compaction may do: read messages, add to the lake, keep its tables in step."""
    _print(compaction_policy(fleet))


@iam.command()
@click.pass_obj
def erasure(fleet: Fleet) -> None:
    """Print what erasing a vehicle may do: remove versions of its messages and rows, and its thing."""
    _print(erasure_policy(fleet))


@iam.command()
@click.pass_obj
def kms(fleet: Fleet) -> None:
    """Print what the policy of FLEET_KMS_KEY must say beside what it says of its administrators."""
    _print(key_policy(fleet))


@iam.command()
@click.argument("part", type=click.Choice(list(PROVISIONER)))
@click.pass_obj
def provisioner(fleet: Fleet, part: str) -> None:
    """Print one part of what provisioning may do: make, change and remove this fleet's resources. Attach all four."""
    _print(PROVISIONER[part](fleet))


@iam.command()
@click.pass_obj
def replay(fleet: Fleet) -> None:
    """Print what a replay may do: read what the rules could not write, and put it back among the messages."""
    _print(replay_policy(fleet))


@iam.command()
@click.pass_obj
def retention(fleet: Fleet) -> None:
    """Print what removing what is too old may do: prove messages, end hours of the lake, remove versions of both."""
    _print(retention_policy(fleet))


@iam.command()
@click.pass_obj
def virtual_vehicle(fleet: Fleet) -> None:
    """Print what the virtual vehicle's check may do: register vehicles of its own, publish, and remove what it made."""
    _print(virtual_vehicle_policy(fleet))


def _print(document: Document) -> None:
    click.echo(json.dumps(document, indent=2))
