"""What is too old in an account goes: messages, rows, tables about vehicles."""

from datetime import UTC, datetime

from fleet_pipeline.account import Account
from fleet_pipeline.lake.privacy.places import NoHistory, Progress
from fleet_pipeline.lake.privacy.retention import Gone, age_out
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.places import history, places


def aged_out(fleet: Fleet, account: Account, *, dry_run: bool = False, on_progress: Progress = lambda *_: None) -> Gone:
    """Return once what the settings say is too old is gone; of a dry run what would go. Raises MissingExtra where the
    settings name an Iceberg catalog that cannot be reached from here.
    """
    found = places(fleet, account, NoHistory() if dry_run else history(fleet, account))
    return age_out(found, datetime.now(UTC), dry_run=dry_run, on_progress=on_progress)
