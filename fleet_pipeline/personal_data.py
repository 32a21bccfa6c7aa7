"""What is held on one vehicle, wherever it lies: given out as a folder of files, or erased.

The messages are the lake's business, the thing and its certificates the cloud side's; here both meet.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet_pipeline import __version__
from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.enrolment.enrolled import principals, remove_vehicle
from fleet_pipeline.cloud.enrolment.hook_log import named, remove_streams
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.privacy.erase import erase, plan
from fleet_pipeline.lake.privacy.export import Exported, export
from fleet_pipeline.lake.privacy.places import EVENT_LOG, FUNCTION_LOGS, Elsewhere, Erased, NoHistory, Progress
from fleet_pipeline.model.errors import AlreadyThere, InUse, InvalidName, NotThisVehicle, VehicleUnknown
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.private import kept_from_git, made_private
from fleet_pipeline.model.thing import THING_NAME
from fleet_pipeline.places import given_stores, history, places
from fleet_pipeline.vehicle.identity import VehicleFolder

_WILD = frozenset("*?%[]")
ONLY_READ = "it is only read: what the vehicle sent stays there until its owner removes it, and becomes no row again"
REGISTRY = "AWS IoT's registry"
MANIFEST, SUMMARY, REGISTRATION = "manifest.json", "README.txt", "registration.json"


@dataclass(frozen=True, slots=True)
class GivenOut:
    """An export that is written."""

    folder: Path
    found: Exported
    registered: bool
    files: int
    bytes: int
    manifest_sha256: str
    """Of `manifest.json`, which has those of all other files."""


def one_vehicle(text: str) -> str:
    """Return what names one vehicle. Raises InvalidName for nothing, and for what is meant to name several."""
    if not text or not text.isprintable() or _WILD & set(text):
        raise InvalidName("serial", text, "name one vehicle, whole and without wildcards")
    return text


def give_out(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    account: Account,
    serial: str,
    folder: Path,
    *,
    start: Hour | None = None,
    end: Hour | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> GivenOut:
    """Return once a folder of its own has everything that is held on a vehicle, with a manifest of SHA-256.

    The folder is its owner's alone, and appears when it is whole. No private key is read. Raises AlreadyThere,
    VehicleUnknown where nothing is held, InUse while another writes it, InvalidName.
    """
    name = one_vehicle(serial)
    if start and end and end <= start:
        raise InvalidName(
            "range", f"{start.partition_key} until {end.partition_key}", "--from must be before --to or --through"
        )
    if folder.exists():
        raise AlreadyThere([folder.name], str(folder.parent))
    raw, lake = S3Store(account.aws, fleet.bucket), Lake.of(fleet, S3Store(account.aws, fleet.lake_bucket))
    with _coming(folder) as coming:
        found = export(
            fleet,
            raw,
            lake,
            name,
            coming,
            given=given_stores(fleet, account),
            start=start,
            end=end,
            on_progress=on_progress,
        )
        registered = registration(fleet, account.aws, name)
        if found.empty and not registered:
            raise VehicleUnknown(name, found.candidates.alike)
        _write_json(coming / REGISTRATION, registered)
        (coming / SUMMARY).write_text(_summary(name, found, registered, start, end), encoding="utf-8")
        files, manifest = _sign(coming), _sha256(coming / MANIFEST)
        kept_from_git(coming)  # no part of what is given out
        _put_in_place(coming, folder)
    return GivenOut(
        folder, found, bool(registered), len(files), sum(each["bytes"] for each in files.values()), manifest
    )


@contextmanager
def _coming(folder: Path) -> Iterator[Path]:
    """Lend an empty folder, its owner's alone, in which what is to be another is made; nothing of it is left after.

    What an export that was killed has left in it is another vehicle's, perhaps, and goes. Raises InUse while one writes
    there, AlreadyThere where it is a file or leads elsewhere.
    """
    coming = folder.with_name(f".{folder.name}.coming")
    if coming.is_symlink() or (coming.exists() and not coming.is_dir()):
        raise AlreadyThere([coming.name], str(coming.parent))
    made_private(coming)
    descriptor = os.open(coming, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it goes with the process that has it
        except BlockingIOError as error:
            raise InUse(f"another export to {folder.name} is", str(folder.parent), "wait for its end") from error
        if not _is(coming, descriptor):  # whoever had it has just put it in its place
            raise AlreadyThere([folder.name], str(folder.parent))
        for left in coming.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield coming
        finally:
            if _is(coming, descriptor):
                shutil.rmtree(coming, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is(folder: Path, descriptor: int) -> bool:
    """Whether a folder is still the one that was opened."""
    return folder.exists() and os.path.samestat(folder.stat(), os.fstat(descriptor))


def _put_in_place(coming: Path, folder: Path) -> None:
    """Have a folder be there as a whole. Raises AlreadyThere where somebody has made one meanwhile."""
    try:
        coming.rename(folder)
    except OSError as error:
        if not folder.exists():
            raise
        raise AlreadyThere([folder.name], str(folder.parent)) from error


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be erased."""

    serial: str
    before: datetime | None = None
    """What was received before this instant; all until now without it."""
    with_thing: bool = False
    """Whether the thing, its certificates, its line of the allow-list and its folder on this machine go, too."""
    every_hour: bool = False
    """Whether all hours are searched, and not those that the index names."""
    with_logs: bool = False
    """Whether the functions' log streams that name it go, with what they say of others."""


def planned_erasure(fleet: Fleet, account: Account, order: Order) -> Erased:
    """Return what an erasure would do now, and write nothing. Raises InvalidName."""
    name = one_vehicle(order.serial)
    return plan(
        places(fleet, account, NoHistory()), name, order.before or datetime.now(UTC), every_hour=order.every_hour
    )


def erase_vehicle(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    account: Account,
    order: Order,
    *,
    confirm: str,
    event_log: Elsewhere | None = None,
    on_progress: Progress = lambda *_: None,
) -> Erased:
    """Return once nothing of a vehicle is left that was received before an instant; its certificate lies in the lake.

    A vehicle of which nothing is known is erased as any other: what comes late of it becomes no row. The thing goes
    first, so that the vehicle sends no more. `event_log` is Dagster's, where it can be reached. Killed anywhere, the
    same call goes on. Raises NotThisVehicle where it was not confirmed with the serial, InvalidName.
    """
    name = one_vehicle(order.serial)
    if confirm != name:
        raise NotThisVehicle(name)
    elsewhere: dict[str, Elsewhere] = {FUNCTION_LOGS: FunctionLogs(fleet, account.aws, remove=order.with_logs)}
    elsewhere |= {EVENT_LOG: event_log} if event_log else {}
    elsewhere |= {f"bucket {rule.bucket} of rule {rule.key}": Untouched(ONLY_READ) for rule in fleet.given_rules}
    found = places(fleet, account, history(fleet, account), elsewhere)
    if order.with_thing and _remove_thing(fleet, account, name):
        elsewhere[REGISTRY] = Untouched("the thing stays, for it has certificates that another fleet gave it")
    by = _caller(account.aws)
    before = order.before or datetime.now(UTC)
    return erase(found, name, before, by=by, every_hour=order.every_hour, on_progress=on_progress)


@dataclass(frozen=True)
class Untouched:
    """What is another's: a bucket that exists and that a rule reads, or a thing."""

    why: str
    """Why it stays, in words that do not name the vehicle."""

    def forget(self, name: str, hours: Sequence[Hour]) -> str:  # noqa: ARG002 (the protocol's)
        """Say that all of it stays."""
        return self.why


@dataclass(frozen=True)
class FunctionLogs:
    """The logs of the functions in CloudWatch, in which whoever asked to register is named."""

    fleet: Fleet
    aws: Aws
    remove: bool = False

    def forget(self, name: str, hours: Sequence[Hour]) -> str:  # noqa: ARG002 (the protocol's)
        """Count the lines that name a vehicle; where it is asked for, remove the streams that have them."""
        found = named(self.fleet, self.aws, name)
        lines = sum(each.lines for each in found)
        if not found:
            return "no line names it"
        days = self.fleet.log_retention_days
        until = f"they go after {days} days" if days else "FLEET_LOG_RETENTION_DAYS sets no end to them"
        if not self.remove:
            return (
                f"{lines:,} lines of {len(found):,} streams name it and stay: single lines cannot be removed; {until}"
            )
        gone = remove_streams(self.aws, found, datetime.now(UTC))
        left = len(found) - len(gone)
        stays = f"; {left:,} streams that are in use stay, until the same command is run again" if left else ""
        return f"{len(gone):,} streams that named it were removed, with their lines of others{stays}"


def certificate_text(fleet: Fleet, account: Account, erased: Erased) -> str:
    """Return an erasure's certificate as people read it."""
    store = S3Store(account.aws, fleet.lake_bucket)
    key = f"{erased.certificate.removesuffix('.json')}.txt"
    [size] = [each.size for page in store.versions(key) for each in page if each.latest and each.key == key]
    return store.read(key, 0, size).decode()


def _remove_thing(fleet: Fleet, account: Account, name: str) -> str:
    """Remove a vehicle's thing; return why it stays. Then its folder on this machine, which may be another's, does."""
    if fleet.allow_list != "none":
        allow_list.take_off(fleet, account.aws, name)
    thing = fleet.thing_name(name)
    if kept := remove_vehicle(fleet, account.aws, thing):
        return kept
    folder = VehicleFolder.of(account.home, thing)
    folder.unconfirmed.delete()
    folder.delete()
    return ""


def _caller(aws: Aws) -> str:
    with doing("say who calls"):
        return aws.sts.get_caller_identity()["Arn"]


def registration(fleet: Fleet, aws: Aws, name: str) -> dict[str, Any]:
    """Return what AWS IoT's registry and the allow-list say of a vehicle; nothing where they do not know it.

    Of certificates their ids and statuses: no key is held there.
    """
    thing = fleet.thing_name(name)
    # A message may say a name that no thing can have: AWS IoT would refuse the question.
    said = _thing(aws, thing) if THING_NAME.fullmatch(thing) else {}
    if fleet.allow_list != "none" and name in allow_list.read(fleet, aws).serials:
        said["allow_list"] = "the serial may register"
    return said


def _thing(aws: Aws, thing: str) -> dict[str, Any]:
    with doing(f"describe thing {thing!r}"), absent("ResourceNotFoundException"):
        found: Any = aws.iot.describe_thing(thingName=thing)
        pages = aws.iot.get_paginator("list_thing_groups_for_thing").paginate(thingName=thing)
        return {
            "thing": found["thingName"],
            "type": found.get("thingTypeName"),
            "attributes": found.get("attributes", {}),
            "groups": [each["groupName"] for page in pages for each in page["thingGroups"]],
            "certificates": _certificates(aws, thing),
        }
    return {}


def _certificates(aws: Aws, thing: str) -> list[dict[str, str]]:
    ids = [each.rpartition(":cert/")[2] for each in principals(aws, thing) if ":cert/" in each]
    described: list[Any] = [aws.iot.describe_certificate(certificateId=each)["certificateDescription"] for each in ids]
    return [
        {
            "id": each["certificateId"],
            "status": each["status"],
            "created": each["creationDate"].isoformat(),
        }
        for each in described
    ]


def _summary(name: str, found: Exported, registered: dict[str, Any], start: Hour | None, end: Hour | None) -> str:
    span = f"from {start.partition_key if start else 'the first'} to {end.partition_key if end else 'now'} (UTC)"
    lines = [
        f"What is held on vehicle {name}, {span}",
        f"Written by fleet-pipeline {__version__} at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        "",
        f"Messages: {found.messages.total():,}",
        *(f"  {rule}: {count:,} messages, {found.rows[rule]:,} rows" for rule, count in sorted(found.messages.items())),
        f"  of these without a row yet: {found.uncompacted:,}",
        f"  of these under keys that no rule writes, which never become rows: {found.foreign:,}",
        f"  of these within messages of several vehicles, of which only this one's part is here: {found.shared:,}",
        f"  left out, because they cannot be read, though the name stands in them: {found.undivided:,}",
        f"Messages that could not be written (reports): {found.reports:,}",
        *(f"{table}: {count:,} rows" for table, count in sorted(found.derived.items())),
        f"Registration: {'a thing, see registration.json' if registered.get('thing') else 'no thing'}",
        "",
        f"Hours of the lake asked about: {found.candidates.searched:,}",
        f"  of these the index (vehicles_hourly) knows the vehicle in: {len(found.candidates.known):,}",
        f"  of these looked into, because the index cannot say: {len(found.candidates.unsure):,}",
        "",
        "raw/*.zip        each message as it was received, byte for byte, by its time and version",
        "messages/*       the same as rows: Parquet for programs, NDJSON (a line each) for people",
        "reports/*.zip    messages that the platform could not store in their place",
        "derived/*        what was computed from them, by hour and by day",
        "registration.json  the thing, its attributes, ids of its certificates; private keys are not held here",
        "manifest.json    SHA-256 and size of each file",
        "",
    ]
    return "\n".join(lines)


def _sign(folder: Path) -> dict[str, dict[str, Any]]:
    """Write the manifest: SHA-256 and size of every file. Return it."""
    files = {
        str(path.relative_to(folder)): {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    _write_json(folder / MANIFEST, {"files": files})
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, said: Any) -> None:
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
