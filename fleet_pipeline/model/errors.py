"""Every error that this package raises on purpose.

    FleetError
    ├── InvalidSetting            a setting cannot be used; no call was made
    ├── InvalidName               a name that AWS, MQTT or S3 would not take
    ├── AwsError                  AWS answered no
    │   ├── AwsRefused            and will say so again
    │   ├── AwsUnavailable        and may say otherwise in a moment: throttled, spreading, unreachable (retryable)
    │   ├── WrongAccount          the credentials belong elsewhere; nothing was changed
    │   ├── WrongRegion           the credentials are set up for another region; nothing was changed
    │   ├── OverwritesUnasked     the object store overwrites although it was asked not to; nothing was written
    │   ├── CannotChange          the field is fixed at creation
    │   ├── GivenBucketUnfit      a bucket of another team's is not as the fleet needs it
    │   ├── GivenThingMissing     what a setting names and somebody else makes does not exist; nothing was changed
    │   ├── OnlyRead              a bucket that a rule reads is another's: nothing in it is removed or written
    │   ├── NotOurs               a resource of this name exists and does not carry our tag
    │   ├── LockHeld              someone else is changing the fleet (retryable)
    │   ├── WouldLose             removing would lose what cannot be had again, and was not confirmed
    │   ├── StillUsed             others have put a policy of ours on something of theirs, which would lose it
    │   ├── NotConfirmed          an action that cannot be undone was not confirmed; nothing was changed
    │   ├── NoClaimCertificate    there is none to give out or to replace, or its key is gone
    │   ├── ClaimRevoked          someone revoked the claim certificate; no run activates it again
    │   ├── ClaimNotRetired       the claim certificate before the current one still works
    │   ├── ClaimStillNeeded      none but a former claim certificate works, so it is not retired
    │   └── WhichClaim            several claim certificates work, and none was named
    ├── CannotJudge               a policy says what our evaluation does not know
    ├── LocalAwsError             AWS on this machine
    │   ├── LocalAwsUnsupported   the installed emulator is not the one whose patches are known
    │   └── LocalAwsDidNotStart   its process ended, or did not answer in time (retryable)
    ├── VehicleError
    │   ├── RegistrationRefused   AWS IoT did not provision the vehicle
    │   ├── NotRegistered         the vehicle has no certificate of its own
    │   ├── NoAuthority           the certificate authority's key is not on this machine
    │   ├── ConnectionFailed      the broker did not let the vehicle in, or the connection was lost (retryable)
    │   ├── PublishRefused        the broker did not take a message
    │   ├── VehicleUnknown        nothing is held on a vehicle of this name
    │   └── NotThisVehicle        an erasure was not confirmed with the vehicle's own serial; nothing was changed
    ├── HookMissing               this installation lacks the source of the hook; nothing was changed
    ├── DemoStopped               the demo was interrupted, or one of its runs failed
    ├── AlreadyThere              a file that would be written is there; nothing was changed
    ├── InUse                     another process of this folder does what only one may do at once
    ├── PortTaken                 another program listens where the UI is to be served
    ├── MachineRefused            the disk is full, or no place where this user may write
    ├── MissingExtra              a command wants a package that is not installed
    ├── QueryRefused              the lake could not be asked, or not this
    ├── AlertNotDelivered         the webhook did not take an alert (retryable)
    ├── IcebergError              a table of the lake in an Iceberg catalog; rows and parts are untouched
    │   ├── CatalogRefused        the catalog cannot be used, or not so
    │   ├── CatalogUnavailable    the catalog did not answer, or others change the table all the time (retryable)
    │   ├── NotOurTable           a table of this name is somebody else's; nothing was changed
    │   └── StillInTable          parts that were to be deleted are what readers see now; nothing was changed
    └── CompactionError
        ├── PartsMissing          the lake's part numbers of an hour have a gap
        ├── PartDamaged           a part of the lake is not what was written
        ├── RecordDamaged         a record of the lake, its columns or its generation, cannot be read
        ├── ContractBroken        a recorded column would change
        ├── ProcessLost           a process that compacted hours was killed (retryable)
        ├── InventoryNotYet       no S3 Inventory is there that began after the hour closed
        ├── InventoryBroken       an S3 Inventory is not whole, or not of the rule's bucket
        ├── EngineUnreachable     there is no cluster, or nobody in it who could work (retryable)
        ├── EngineDiffers         a worker of the cluster has another version of this package, or none
        ├── WorkerLost            workers of the cluster died at the same hour again and again (retryable)
        ├── NotVerified           lake and raw objects of an hour are not the same; nothing was purged
        ├── NoRoom                disk, memory or open files of this machine are used up (retryable)
        ├── FolderRefused         the folder of temporary files is gone, broken, or not ours to write in
        └── Defect                an hour met what nobody foresaw: a mistake of this package

Facts are attributes and constructor arguments, so every error survives pickling. No error holds a private key.
"""

import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar

from fleet_pipeline.model.plain import plain, plain_lines


class FleetError(Exception):
    """The root.

    `retryable` says whether the same action may succeed by itself in a moment, `in_lines` whether its line ends are
    meant.

    What any error says is inert, whatever it quotes: a serial, a key of S3, an answer of AWS's.
    """

    retryable: ClassVar[bool] = False
    in_lines: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Make the sentence of a class inert, so that no class and no reader of it has to think of that."""
        super().__init_subclass__()
        if "__str__" in vars(cls):
            cls.__str__ = _inert(cls.__str__, in_lines=cls.in_lines)  # type: ignore[method-assign,assignment]


def _inert(sentence: Callable[["FleetError"], str], *, in_lines: bool) -> Callable[["FleetError"], str]:
    return lambda error: plain_lines(sentence(error)) if in_lines else plain(sentence(error), longest=sys.maxsize)


class InvalidSetting(FleetError):
    """A setting has a value that cannot be used, or `None`: it has none, or there is no such setting."""

    def __init__(self, setting: str, value: object, why: str) -> None:
        super().__init__(setting, value, why)
        self.setting, self.value, self.why = setting, value, why

    def __str__(self) -> str:
        shown = ",".join(map(str, self.value)) if isinstance(self.value, tuple) else self.value
        value = "" if self.value is None else f" is {shown!r}"
        return f"setting {self.setting}{value}: {self.why}"


class InvalidName(FleetError):
    """A name breaks the rules of the service that would carry it."""

    def __init__(self, kind: str, name: str, why: str) -> None:
        super().__init__(kind, name, why)
        self.kind, self.name, self.why = kind, name, why

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} is not valid: {self.why}"


class AwsError(FleetError):
    """AWS did not do what it was asked to do."""


_CREDENTIALS = "choose credentials as for any AWS tool: AWS_PROFILE, `aws sso login`, or the role of the machine"

_REMEDIES = {
    "NoSuchBucket": "`fleet apply` makes the buckets that are the fleet's own; any other must be there before",
    "NoCredentialsError": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
}
"""What then helps, by AWS's code or botocore's name of the error. Others are said by AWS's own message."""


class AwsRefused(AwsError):
    """AWS answered no and will answer no again."""

    def __init__(self, action: str, code: str, message: str) -> None:
        super().__init__(action, code, message)
        self.action, self.code, self.message = action, code, message

    def __str__(self) -> str:
        then = f"; {_REMEDIES[self.code]}" if self.code in _REMEDIES else ""
        return f"AWS would not {self.action}: {self.message} ({self.code}){then}"


class AwsUnavailable(AwsRefused):
    """AWS was throttling, unreachable, or had not yet heard of a thing made a moment ago."""

    retryable = True


class WrongAccount(AwsError):
    """The credentials or the region are not those of the settings. Nothing was changed."""

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(wanted, found)
        self.wanted, self.found = wanted, found

    def __str__(self) -> str:
        return (
            f"the settings name account {self.wanted}, the credentials belong to account {self.found}: nothing was "
            "changed; "
            "set FLEET_ACCOUNT, or choose other credentials (AWS_PROFILE)"
        )


class WrongRegion(AwsError):
    """The settings and the environment of the credentials name two regions. Nothing was changed."""

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(wanted, found)
        self.wanted, self.found = wanted, found

    def __str__(self) -> str:
        return (
            f"the settings name region {self.wanted}, the credentials are set up for region {self.found}: nothing "
            "was changed; "
            "set FLEET_REGION, or AWS_REGION (or the profile's region) to the one that is meant"
        )


class OverwritesUnasked(AwsError):
    """An object store wrote an object whose key was taken, although it was asked not to (`If-None-Match: *`).

    Nothing of the lake was written.
    """

    def __init__(self, bucket: str, address: str) -> None:
        super().__init__(bucket, address)
        self.bucket, self.address = bucket, address

    def __str__(self) -> str:
        return (
            f"the object store at {self.address} ignores `If-None-Match: *`: it wrote an object of bucket "
            f"{self.bucket} twice, so two writers "
            "would overwrite each other's parts unnoticed. Nothing else was written. Take a bucket that never kept "
            "versions "
            "(FLEET_LAKE_BUCKET; Ceph's RGW 16 obeys the condition there, and ignores it where versions are kept), "
            "or a store that obeys it"
        )


class CannotChange(AwsError):
    """A field that AWS fixes at creation differs from the wanted one."""

    def __init__(self, resource: str, field: str, found: object, wanted: object) -> None:
        super().__init__(resource, field, found, wanted)
        self.resource, self.field, self.found, self.wanted = resource, field, found, wanted

    def __str__(self) -> str:
        return (
            f"{self.resource} has {self.field} {self.found!r} and AWS cannot change it to {self.wanted!r}: take the "
            "setting back, or remove the resource first"
        )


class GivenBucketUnfit(AwsError):
    """A bucket of FLEET_GIVEN_BUCKETS is not as the fleet needs it; nothing was done to it.

    `needed` is what its owner has to do.
    """

    def __init__(self, bucket: str, needed: tuple[str, ...]) -> None:
        super().__init__(bucket, needed)
        self.bucket, self.needed = bucket, needed

    def __str__(self) -> str:
        return (
            f"the given bucket {self.bucket!r} is not made or changed by this fleet (FLEET_GIVEN_BUCKETS). Its owner "
            f"has to do this: {'; '.join(self.needed)}"
        )


class GivenThingMissing(AwsError):
    """Things that settings name, and that somebody else makes, do not exist. Nothing was changed.

    `missing` says of each which setting names it, and how it is made.
    """

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(missing)
        self.missing = missing

    def __str__(self) -> str:
        return f"{'; '.join(self.missing)} (nothing was changed)"


class OnlyRead(AwsError):
    """A bucket that exists and that a rule reads: nothing in it is removed or written. Nothing was changed."""

    def __init__(self, bucket: str, rule: str) -> None:
        super().__init__(bucket, rule)
        self.bucket, self.rule = bucket, rule

    def __str__(self) -> str:
        return (
            f"bucket {self.bucket} of rule {self.rule} is only read: nothing in it is removed or written from here; "
            "ask its owner"
        )


class NotOurs(AwsError):
    """A resource of the wanted name exists, made by someone else, or by the fleet `owner`.

    `named_by` are the settings from which its name comes.
    """

    def __init__(self, resource: str, named_by: str = "FLEET_SERVICE or FLEET_ENVIRONMENT", owner: str = "") -> None:
        super().__init__(resource, named_by, owner)
        self.resource, self.named_by, self.owner = resource, named_by, owner

    def __str__(self) -> str:
        if self.owner:
            return (
                f"{self.resource} belongs to another fleet, {self.owner!r} (its tag says so): nothing was changed; "
                f"choose another name by {self.named_by}"
            )
        return (
            f"{self.resource} exists and was not made by this fleet (it lacks our tag): nothing was changed; "
            f"take it over with `fleet adopt`, choose another name by {self.named_by}, or remove it"
        )


class LockHeld(AwsError):
    """Someone else is changing the fleet. The lock of one that died lapses by itself."""

    retryable = True

    def __init__(self, holder: str, since: str, lapses_after_s: int) -> None:
        super().__init__(holder, since, lapses_after_s)
        self.holder, self.since, self.lapses_after_s = holder, since, lapses_after_s

    def __str__(self) -> str:
        return (
            f"{self.holder} has held the lock since {self.since} and is changing the fleet: nothing was changed; "
            f"try again when that is done (the lock of a process that died lapses after {self.lapses_after_s} s)"
        )


class WouldLose(AwsError):
    """What is to be done would lose what cannot be had again. Nothing was changed.

    `deed` is what would be done, in words that a sentence begins with.
    """

    def __init__(self, losses: tuple[str, ...], bucket: str, deed: str) -> None:
        super().__init__(losses, bucket, deed)
        self.losses, self.bucket, self.deed = losses, bucket, deed

    def __str__(self) -> str:
        return (
            f"{self.deed} would lose {'; '.join(self.losses)}: nothing was changed; to go on, confirm with the "
            f"bucket's name: `--confirm {self.bucket}`, or in Dagster's launchpad `confirm: {self.bucket}`"
        )


class StillUsed(AwsError):
    """Others have put a policy of this fleet on something that is no certificate, such as a thing group: it would lose
    what the policy allows.
    """

    def __init__(self, policy: str, targets: tuple[str, ...], here: str = "") -> None:
        super().__init__(policy, targets, here)
        self.policy, self.targets, self.here = policy, targets, here

    def __str__(self) -> str:
        detach = "; ".join(
            f"aws iot detach-policy --policy-name {self.policy} --target {each}" for each in self.targets
        )
        return (
            f"IoT policy {self.policy!r} is also on {' and '.join(self.targets)}, where this fleet did not put it: "
            "the policy was not deleted, nor anything of theirs changed; "
            f"if they can do without it, take it off with `{detach}`{self.here}, then try again"
        )


class NotConfirmed(AwsError):
    """An action that cannot be undone wants a name typed, so that no slip and no stranger's link does it.

    Nothing was changed.
    """

    def __init__(self, job: str, bucket: str) -> None:
        super().__init__(job, bucket)
        self.job, self.bucket = job, bucket

    def __str__(self) -> str:
        return (
            f"{self.job} cannot be undone: nothing was changed; to go on, set `confirm` in its config to the bucket's "
            f"name, {self.bucket}"
        )


class NoClaimCertificate(AwsError):
    """There is no claim certificate, or its private key is gone, which AWS IoT gives out once."""

    def __init__(self, missing: str) -> None:
        super().__init__(missing)
        self.missing = missing

    def __str__(self) -> str:
        return (
            f"there is no claim certificate to use, {self.missing} is missing: `fleet apply` makes one, `fleet claim "
            "rotate` replaces one whose key is gone"
        )


class ClaimRevoked(AwsError):
    """The claim certificate was revoked."""

    def __init__(self, certificate_id: str) -> None:
        super().__init__(certificate_id)
        self.certificate_id = certificate_id

    def __str__(self) -> str:
        return (
            f"claim certificate {self.certificate_id} was revoked and is not activated again: make a new one with "
            "`fleet claim rotate`"
        )


class ClaimNotRetired(AwsError):
    """A rotation is not over: the former claim certificate still works."""

    def __init__(self, certificate_id: str) -> None:
        super().__init__(certificate_id)
        self.certificate_id = certificate_id

    def __str__(self) -> str:
        return (
            f"the former claim certificate {self.certificate_id} still works: end the last rotation with `fleet claim "
            "retire` before the next"
        )


class ClaimStillNeeded(AwsError):
    """The claim certificate that is given out does not work, and a former one does: retiring it would leave none."""

    def __init__(self, certificate_id: str) -> None:
        super().__init__(certificate_id)
        self.certificate_id = certificate_id

    def __str__(self) -> str:
        return (
            f"the claim certificate that is given out does not work, and the former one {self.certificate_id} does: "
            "make a new one with `fleet claim rotate`, then name what is to be retired with `--certificate`"
        )


class WhichClaim(AwsError):
    """Several claim certificates work, and none was named."""

    def __init__(self, certificate_ids: tuple[str, ...]) -> None:
        super().__init__(certificate_ids)
        self.certificate_ids = certificate_ids

    def __str__(self) -> str:
        return (
            f"a rotation lasts, and {' and '.join(self.certificate_ids)} work, the one that is given out first: name "
            "the stolen one (`--certificate`)"
        )


class CannotJudge(FleetError):
    """A policy has an element or a condition that our evaluation does not know, so what it allows cannot be said."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return (
            f"what the policy allows cannot be said: its {self.what} is not among what our documents use; look at it "
            "by hand"
        )


class LocalAwsError(FleetError):
    """AWS on this machine cannot be used."""


class LocalAwsUnsupported(LocalAwsError):
    """The installed emulator is not the one that the launcher was written for."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return (
            f"AWS on this machine cannot start: {self.why}; install the extra 'fleet-pipeline[local]' from the lock "
            "file"
        )


class LocalAwsDidNotStart(LocalAwsError):
    """The emulator's process ended or did not answer in time, as on a machine that is busy."""

    retryable = True

    def __init__(self, why: str, log: str) -> None:
        super().__init__(why, log)
        self.why, self.log = why, log

    def __str__(self) -> str:
        return f"AWS on this machine did not start: {self.why}; its log is {self.log}"


class VehicleError(FleetError):
    """A vehicle could not do what it set out to do."""


class RegistrationRefused(VehicleError):
    """AWS IoT did not provision the vehicle: the hook said no, or the template could not be carried out."""

    def __init__(self, serial: str, status_code: int, error_code: str, message: str, folder: str = "") -> None:
        super().__init__(serial, status_code, error_code, message, folder)
        self.serial, self.status_code, self.error_code, self.message = serial, status_code, error_code, message
        self.folder = folder
        """Where it has a certificate with which it was not let in; empty for a vehicle that has none."""

    def __str__(self) -> str:
        where = (
            f"; `fleet vehicle why --serial {plain(self.serial)}` says why"
            if self.status_code == HTTPStatus.FORBIDDEN
            else ""
        )
        what = (
            f"AWS IoT does not let the vehicle {self.serial!r} in with the certificate that it has in {self.folder}, "
            "and would not give it another"
            if self.folder
            else f"AWS IoT would not register the vehicle {self.serial!r}"
        )
        return f"{what}: {self.message} ({self.status_code} {self.error_code}){where}"


class NotRegistered(VehicleError):
    """The vehicle has no certificate of its own."""

    def __init__(self, serial: str, folder: str) -> None:
        super().__init__(serial, folder)
        self.serial, self.folder = serial, folder

    def __str__(self) -> str:
        return (
            f"the vehicle {self.serial!r} has no certificate in {self.folder}: run `fleet vehicle register --serial "
            f"{self.serial}`"
        )


class NoAuthority(VehicleError):
    """The certificate authority cannot sign here: its key is not on this machine."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return f"there is no certificate authority with its key in {self.folder}: `fleet ca make` makes one for a trial"


class ConnectionFailed(VehicleError):
    """The broker could not be reached, did not let the vehicle in, or the connection was lost before the broker had
    answered.
    """

    retryable = True

    def __init__(self, client_id: str, endpoint: str, why: str) -> None:
        super().__init__(client_id, endpoint, why)
        self.client_id, self.endpoint, self.why = client_id, endpoint, why

    def __str__(self) -> str:
        return f"{self.client_id!r} has no connection to {self.endpoint}: {self.why}"


class PublishRefused(VehicleError):
    """A message was not taken: the device policy does not allow its topic, or it is too long."""

    def __init__(self, client_id: str, topic: str, why: str) -> None:
        super().__init__(client_id, topic, why)
        self.client_id, self.topic, self.why = client_id, topic, why

    def __str__(self) -> str:
        return f"{self.client_id!r} could not publish to {self.topic!r}: {self.why}"


class VehicleUnknown(VehicleError):
    """Nothing is held on a vehicle of this name: no message, no row, no thing. Nothing was written."""

    def __init__(self, name: str, alike: tuple[str, ...]) -> None:
        super().__init__(name, alike)
        self.name, self.alike = name, alike

    def __str__(self) -> str:
        others = f"; {len(self.alike)} others begin so, such as {self.alike[0]}: name one whole" if self.alike else ""
        return f"nothing is held on a vehicle {self.name!r}: no message, no row and no thing{others}"


class NotThisVehicle(VehicleError):
    """An erasure wants the vehicle's serial typed once more, so that no slip does it. Nothing was changed."""

    def __init__(self, serial: str) -> None:
        super().__init__(serial)
        self.serial = serial

    def __str__(self) -> str:
        return (
            f"an erasure cannot be undone: nothing was changed; to go on, confirm it with the serial itself, "
            f"`--confirm {self.serial}`, or in Dagster's launchpad `confirm: {self.serial}`; `--dry-run`, or there no "
            "`confirm`, says what would go"
        )


class HookMissing(FleetError):
    """This installation has no source of the hook, so its function cannot be planned, made or compared.

    Nothing was changed.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"the source of the pre-provisioning hook is not in {self.folder}: install the wheel as it was built, or "
            "the whole checkout"
        )


class AlreadyThere(FleetError):
    """Files that would be written are there already. Nothing was written."""

    def __init__(self, names: list[str], folder: str) -> None:
        super().__init__(names, folder)
        self.names, self.folder = names, folder

    def __str__(self) -> str:
        return (
            f"{', '.join(self.names)} in {self.folder} would be overwritten: nothing was written; name another folder, "
            "as in `fleet init my-fleet`"
        )


class InUse(FleetError):
    """Another process does in this folder what only one may do at a time, or what this one would take away from it.

    Nothing was changed.
    """

    def __init__(self, what: str, folder: str, remedy: str) -> None:
        super().__init__(what, folder, remedy)
        self.what, self.folder, self.remedy = what, folder, remedy

    def __str__(self) -> str:
        return f"{self.what} at work with {self.folder}: nothing was changed; {self.remedy}"


class DemoStopped(FleetError):
    """The demo ended before its counts. What it made stays, and the next demo goes on with it."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where, self.why = where, why

    def __str__(self) -> str:
        return f"the demo ended at {self.where}: {self.why}; what it made stays, so run it again"


class PortTaken(FleetError):
    """The UI cannot be served where it is to be."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(host, port, why)
        self.host, self.port, self.why = host, port, why

    def __str__(self) -> str:
        return (
            f"the UI cannot listen on {self.host}:{self.port} ({self.why}): stop what does, or choose another with "
            "`fleet ui --port` (`make ui PORT=3001`)"
        )


class MachineRefused(FleetError):
    """This machine's system did not let a command write a file. What was written before stays."""

    def __init__(self, file: str, why: str, remedy: str) -> None:
        super().__init__(file, why, remedy)
        self.file, self.why, self.remedy = file, why, remedy

    def __str__(self) -> str:
        return f"{self.file or 'a file'} could not be used: {self.why}; {self.remedy}, and run the command again"


class MissingExtra(FleetError):
    """A command wants a package that an extra of this one brings."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package, self.extra = package, extra

    def __str__(self) -> str:
        return f"this wants {self.package}: pip install 'fleet-pipeline[{self.extra}]' brings it"


class QueryRefused(FleetError):
    """The lake could not be asked, or not this; `tables` are those that there are, where that helps.

    DuckDB points at a place in the statement, in lines.
    """

    in_lines = True

    def __init__(self, why: str, tables: tuple[str, ...]) -> None:
        super().__init__(why, tables)
        self.why, self.tables = why, tables

    def __str__(self) -> str:
        return f"{self.why}. The tables are: {', '.join(self.tables)}" if self.tables else self.why


class AlertNotDelivered(FleetError):
    """The webhook did not take an alert. Its address is a secret and is no part of this."""

    retryable = True

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the webhook of FLEET_ALERT_URL did not take an alert: {self.why}"


class IcebergError(FleetError):
    """A table of the lake in an Iceberg catalog could not be brought up to date. Rows and parts are untouched."""


class CatalogRefused(IcebergError):
    """The Iceberg catalog cannot be used, or not so, and will say so again."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(kind, why)
        self.kind, self.why = kind, why

    def __str__(self) -> str:
        return f"the Iceberg catalog (FLEET_ICEBERG={self.kind}) cannot be used: {self.why}; the lake itself needs none"


class CatalogUnavailable(IcebergError):
    """The Iceberg catalog did not answer, or others changed the table each time."""

    retryable = True

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(kind, why)
        self.kind, self.why = kind, why

    def __str__(self) -> str:
        said = f"the Iceberg catalog (FLEET_ICEBERG={self.kind}) cannot be used at this moment: {self.why}"
        return f"{said}; the next run does what is left"


class NotOurTable(IcebergError):
    """The catalog has something of the table's name that does not say it is of this lake. Nothing was changed."""

    def __init__(self, table: str, why: str) -> None:
        super().__init__(table, why)
        self.table, self.why = table, why

    def __str__(self) -> str:
        remedy = "rename or drop it, or set FLEET_ICEBERG_NAMESPACE"
        return f"the catalog's table {self.table} is not this lake's: {self.why}; {remedy}"


class StillInTable(IcebergError):
    """Parts that were to be deleted for good are what readers of the table see now. Nothing was changed."""

    def __init__(self, table: str, parts: int, example: str) -> None:
        super().__init__(table, parts, example)
        self.table, self.parts, self.example = table, parts, example

    def __str__(self) -> str:
        still = f"{self.table} has {self.parts} of the parts that are to be deleted, such as {self.example}"
        return f"{still}: bring it up to date first (`fleet iceberg sync`)"


class CompactionError(FleetError):
    """An hour could not be compacted. The raw objects are untouched."""


class PartsMissing(CompactionError):
    """The part numbers of an hour in the lake have a gap: someone deleted or added a file."""

    def __init__(self, partition: str, found: tuple[str, ...]) -> None:
        super().__init__(partition, found)
        self.partition, self.found = partition, found

    def __str__(self) -> str:
        return (
            f"{self.partition} in the lake should hold part-00000 onwards without a gap and holds "
            f"{', '.join(self.found)}: "
            "restore the missing version in the bucket before compacting this hour (docs/backfills.md says how)"
        )


class PartDamaged(CompactionError):
    """A Parquet file of the lake is not as it was written."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, why)
        self.key, self.why = key, why

    def __str__(self) -> str:
        return (
            f"{self.key} in the lake is damaged: {self.why}; its raw objects are untouched, restore the version that "
            "was written first (docs/backfills.md says how)"
        )


class RecordDamaged(CompactionError):
    """A record of the lake says nothing that can be used: it is not ours, was cut short, or comes from
    a newer version.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, why)
        self.key, self.why = key, why

    def __str__(self) -> str:
        return (
            f"{self.key} in the lake cannot be used: {self.why}; nothing was changed: "
            "remove that object's version, or use the version of this package that wrote it"
        )


class ContractBroken(CompactionError):
    """Columns that stand in the lake would be taken away or changed."""

    def __init__(self, changes: tuple[str, ...]) -> None:
        super().__init__(changes)
        self.changes = changes

    def __str__(self) -> str:
        return (
            f"recorded columns cannot change ({', '.join(self.changes)}), because files of one table must agree: "
            "rewrite the table as a new generation"
        )


class InventoryNotYet(CompactionError):
    """No S3 Inventory is there from which an hour could be read. The hour stays due."""

    def __init__(self, rule: str, inventory: str, hour: str, said: str, wanted: str) -> None:
        super().__init__(rule, inventory, hour, said, wanted)
        self.rule, self.inventory, self.hour, self.said, self.wanted = rule, inventory, hour, said, wanted

    def __str__(self) -> str:
        return (
            f"{self.hour} of rule {self.rule} is read from an inventory of {self.inventory} that began at "
            f"{self.wanted} or later, and {self.said}: wait for the next one, or take "
            "`inventory` out of the rule to list the bucket"
        )


class InventoryBroken(CompactionError):
    """An S3 Inventory is not whole, or not one that the rule can be read from. Its hours stay due."""

    def __init__(self, rule: str, at: str, why: str) -> None:
        super().__init__(rule, at, why)
        self.rule, self.at, self.why = rule, at, why

    def __str__(self) -> str:
        return (
            f"the inventory of rule {self.rule} cannot be used, because of {self.at}: {self.why}. Wait for the next "
            "one, or take `inventory` out of the rule to list the bucket"
        )


class EngineUnreachable(CompactionError):
    """There is no Dask cluster at an address, or nobody in it who could work. What was finished is finished."""

    retryable = True

    def __init__(self, address: str, reason: str, seconds: int) -> None:
        super().__init__(address, reason, seconds)
        self.address, self.reason, self.seconds = address, reason, seconds

    def __str__(self) -> str:
        return (
            f"FLEET_ENGINE names {self.address}, and for {self.seconds} s: {self.reason}. Start the scheduler "
            "(`dask scheduler`) and workers (`dask worker`), or say FLEET_ENGINE=processes. Then run it again: what "
            "was finished is finished"
        )


class EngineDiffers(CompactionError):
    """A worker of the cluster cannot do what was asked, because it has another version of this package, or none."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(version, reason)
        self.version, self.reason = version, reason

    def __str__(self) -> str:
        return (
            f"the cluster was given work of fleet-pipeline {self.version}, and: {self.reason}. Install the same "
            "version of fleet-pipeline and of its libraries on every worker, and start the workers anew"
        )


class WorkerLost(CompactionError):
    """Workers of the cluster died at the same unit again and again."""

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}. Give each worker 1 GB of memory or more, and one thread; then run it again"


class ProcessLost(CompactionError):
    """A process that compacted hours is gone, and with it those that worked beside it.

    What was finished is finished.
    """

    retryable = True

    def __init__(self, hours: tuple[str, ...]) -> None:
        super().__init__(hours)
        self.hours = hours

    def __str__(self) -> str:
        return (
            f"a process that compacted one of {', '.join(self.hours)} was killed, perhaps for want of memory: "
            "finished hours stay finished; run again, with fewer --processes if it happens again"
        )


class NotVerified(CompactionError):
    """An hour's raw objects and its rows in the lake are not the same messages. Nothing was deleted."""

    def __init__(self, partition: str, why: str) -> None:
        super().__init__(partition, why)
        self.partition, self.why = partition, why

    def __str__(self) -> str:
        return f"{self.partition} was not purged: {self.why}; compact the hour and verify it again"


class NoRoom(CompactionError):
    """Something of this machine that an hour needs meanwhile is used up.

    The hour stays due, and the lake is as it was or has whole parts more.
    """

    retryable = True

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.remedy}"


class FolderRefused(CompactionError):
    """The folder of temporary files cannot be used.

    The hour stays due, and the lake is as it was or has whole parts more.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what, self.why = what, why

    def __str__(self) -> str:
        return (
            f"{self.what}: a temporary file could not be made or used: {self.why}; set TMPDIR to a folder in which "
            "this user may write"
        )


class Defect(CompactionError):
    """An hour met what nobody foresaw. It stays due, and no other hour waits for it."""

    def __init__(self, what: str, kind: str, said: str, place: str) -> None:
        super().__init__(what, kind, said, place)
        self.what, self.kind, self.said, self.place = what, kind, said, place

    def __str__(self) -> str:
        return (
            f"{self.what}: a defect of fleet_pipeline, {self.kind} at {self.place}: {self.said}; "
            "nothing is lost and the hour stays due, please report it with the traceback in the log"
        )
