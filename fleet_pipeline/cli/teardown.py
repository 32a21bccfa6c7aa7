"""`fleet destroy`: the cloud side of the fleet taken down again."""

import click

from fleet_pipeline.account import Account
from fleet_pipeline.cli.cloud import who
from fleet_pipeline.cli.shown import console
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.destroy import destroy as remove_fleet
from fleet_pipeline.model.fleet import Fleet


@click.command()
@click.option("--confirm", default="", metavar="BUCKET", help="Name of the raw bucket, to lose what would be lost.")
@click.option("--with-data", is_flag=True, help="Delete both buckets with every message and every Parquet file, too.")
@click.pass_obj
def destroy(fleet: Fleet, confirm: str, *, with_data: bool) -> None:
    """Remove what `fleet apply` made, vehicles included, in reverse order; the buckets with their data are kept.

    Says what would be lost and changes nothing, unless it is confirmed. Started again after it was stopped, it goes on.
    """
    aws = Account.of(fleet).aws
    with Lock(aws, fleet.bucket, who()) as lock:
        for each in remove_fleet(fleet, aws, confirmed=confirm, with_data=with_data, before_write=lock.take):
            console.print(f"{each.action:<8} {each.what}", highlight=False, soft_wrap=True)
