"""One fleet among other things in Dagster: the names under which its definitions are found, and which
runs are its own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import dagster as dg

from fleet_pipeline.instance.internals import CodeLocationOrigin
from fleet_pipeline.instance.own_process import is_of_location
from fleet_pipeline.model.errors import InvalidName, InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.resources.lock import LockResource


@dataclass(frozen=True, slots=True)
class Scope:
    """A fleet, and how its definitions are told from others in the same Dagster.

    The prefix stands before every asset key, and before the name of every job, schedule, sensor, group, pool, op and
    resource. Without one the names are those of the fleet that has a Dagster of its own. Raises InvalidName for a
    prefix that Dagster would refuse in one of these places, and InvalidSetting for an automation that is none of True,
    False and None.
    """

    fleet: Fleet
    prefix: tuple[str, ...] = ()
    automation: bool | None = None
    """Whether schedules and sensors run from the start; None leaves it to the fleet's settings, and these to each of
    them.
    """
    executor: dg.ExecutorDefinition = field(default=dg.in_process_executor, compare=False)
    """How the steps of our jobs are run. Most take a tenth of a second, and a process of their own takes three."""

    def __post_init__(self) -> None:
        """Refuse a prefix that is no name, and what would count as true or false without being it."""
        if not isinstance(self.automation, bool | None):
            raise InvalidSetting("automation", self.automation, "write True, False or None")
        for part in self.prefix:
            if not re.fullmatch(r"[A-Za-z0-9_]+", part):
                raise InvalidName(
                    "key prefix", part, "use a-z, A-Z, 0-9 and _ (Dagster's names of jobs and groups allow no others)"
                )

    def key(self, *path: str) -> dg.AssetKey:
        """Return the key of an asset of this fleet."""
        return dg.AssetKey([*self.prefix, *path])

    def name(self, name: str) -> str:
        """Return the name of a job, schedule, sensor, group, pool, op or resource of this fleet."""
        return "_".join([*self.prefix, name])

    @property
    def account_key(self) -> str:
        """The resource that is the account. Not `account`: a code location may have one of that name."""
        return self.name("fleet_account")

    @property
    def lock_key(self) -> str:
        """The resource that is the lock of those who change the fleet."""
        return self.name("fleet_lock")

    @property
    def resources(self) -> dict[str, dg.ConfigurableResource[Any]]:
        """What our definitions are given to work with."""
        account = AccountResource.of(self.fleet)
        return {self.account_key: account, self.lock_key: LockResource(account=account, bucket=self.fleet.bucket)}

    def account(self, resources: Any) -> AccountResource:
        """Return the account out of the resources of a context."""
        return cast("AccountResource", getattr(resources, self.account_key))

    def lock(self, resources: Any) -> LockResource:
        """Return the lock out of the resources of a context."""
        return cast("LockResource", getattr(resources, self.lock_key))

    def schedule_status(self, *, by_itself: bool) -> dg.DefaultScheduleStatus:
        """Return whether a schedule runs from the start, where nobody has said it of all."""
        return dg.DefaultScheduleStatus.RUNNING if self._runs(by_itself=by_itself) else dg.DefaultScheduleStatus.STOPPED

    def sensor_status(self, *, by_itself: bool) -> dg.DefaultSensorStatus:
        """Return whether a sensor runs from the start, where nobody has said it of all."""
        return dg.DefaultSensorStatus.RUNNING if self._runs(by_itself=by_itself) else dg.DefaultSensorStatus.STOPPED

    def _runs(self, *, by_itself: bool) -> bool:
        said = self.fleet.automation == "on" if self.automation is None and self.fleet.automation else self.automation
        return by_itself if said is None else said

    @property
    def is_local(self) -> bool:
        """Whether AWS is on this machine, where the lake is looked after from the start."""
        return self.fleet.profile == "local"


@dataclass(frozen=True, slots=True)
class Own:
    """What is this fleet's among the definitions of a code location, and so which runs are its own."""

    jobs: frozenset[str]
    assets: frozenset[dg.AssetKey]
    checks: frozenset[dg.AssetCheckKey]

    @classmethod
    def of(
        cls,
        jobs: Iterable[Any],
        assets: Iterable[dg.AssetsDefinition | dg.AssetSpec],
        checks: Iterable[dg.AssetChecksDefinition],
    ) -> "Own":
        """Return what these definitions are: the checks that assets make themselves are among them."""
        made = list(assets)
        keys = frozenset(key for each in made for key in ([each.key] if isinstance(each, dg.AssetSpec) else each.keys))
        within = (key for each in made if isinstance(each, dg.AssetsDefinition) for key in each.check_keys)
        return cls(
            frozenset(job.name for job in jobs),
            keys,
            frozenset([*within, *(key for each in checks for key in each.check_keys)]),
        )

    def has(self, run: dg.DagsterRun, here: CodeLocationOrigin | None) -> bool:
        """Whether a run is of this fleet: of one of its jobs, or of some of its assets or checks."""
        if not is_of_location(run, here):
            return False
        chosen = (run.asset_selection or set()) & self.assets or (run.asset_check_selection or set()) & self.checks
        return run.job_name in self.jobs or bool(chosen)
