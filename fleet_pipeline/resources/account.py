"""The AWS account as a Dagster resource.

It has no field for credentials: those come from AWS's own chain, or are not needed locally.
"""

from pathlib import Path
from typing import cast

import dagster as dg
from pydantic import Field, PrivateAttr

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.instance import own_process
from fleet_pipeline.model.fleet import Fleet, Profile


class AccountResource(dg.ConfigurableResource[Account]):
    """The account in which the assets exist, opened once a run and checked before anything is changed."""

    profile: str = Field(description="`local` for AWS on this machine, `aws` for an account")
    account: str = Field(description="The account's 12 digits, checked against STS")
    region: str = Field(description="The region of every resource")
    home: str = Field(description="Folder of AWS on this machine and of vehicles' certificates")

    _opened: Account | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, fleet: Fleet) -> "AccountResource":
        """Return the resource of a fleet's settings."""
        return cls(profile=fleet.profile, account=fleet.account, region=fleet.region, home=fleet.home)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note which process works on the run, before its first step: all that needs the account is then known when it
        is killed.
        """
        if context.run and context.instance:
            own_process.tag(context.instance, context.run.run_id)

    @property
    def aws(self) -> Aws:
        """The clients of the account. Raises WrongAccount when the credentials belong elsewhere."""
        return self.opened.aws

    @property
    def opened(self) -> Account:
        """The account; nothing is called or started yet."""
        if self._opened is None:
            self._opened = Account(cast("Profile", self.profile), self.account, self.region, Path(self.home))
        return self._opened
