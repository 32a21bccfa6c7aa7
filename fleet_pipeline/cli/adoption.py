"""`fleet adopt-bucket`: how the keys of a bucket that exists are built, what a rule would read there, and the rule."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.shown import console
from fleet_pipeline.lake.operations.adoption import (
    NO_JSON,
    ONE_GZIP,
    Found,
    NoKeys,
    as_toml,
    looked_at,
    says_a_time,
)
from fleet_pipeline.lake.operations.inventories import inventories, sentences
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidName, InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain

_ADDRESS = re.compile(r"s3://([a-z0-9.-]{3,63})(?:/(.*))?", re.DOTALL)


@click.command("adopt-bucket")
@click.argument("address", metavar="s3://BUCKET/PREFIX")
@click.option(
    "--layout",
    default="",
    help="How the keys are built, instead of a guess: the name of a layout, below PREFIX, or a pattern of whole keys "
    "(docs/layouts.md).",
)
@click.option("--key", default="", help="The rule's key; without it one that is made of the address.")
@click.option("--write", is_flag=True, help="Write the rule into fleet.toml.")
@click.pass_obj
def adopt_bucket(fleet: Fleet, address: str, layout: str, key: str, *, write: bool) -> None:
    """Look at a bucket that exists: how its keys are built, what a rule would read there, what does not fit, and what
    it costs. Up to 100,000 keys are listed; nothing is written to the bucket, ever. Where keys do not go with the time,
    the rule names an S3 Inventory if one that fits is configured.

    Exit code 1 where no key fits, where most of what was looked into is Parquet, or where the fleet cannot have the
    rule.
    """
    named = _ADDRESS.fullmatch(address)
    if not named:
        raise InvalidName("address", address, "write it as s3://bucket/prefix")
    bucket, prefix = named[1], named[2] or ""
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    key = key or _key(fleet, bucket, prefix)
    aws = Account.of(fleet).aws
    try:
        found = looked_at(S3Store(aws, bucket), bucket, prefix, key, layout=layout)
    except NoKeys as error:
        raise InvalidName("address", address, "there is no object below it") from error
    if found.is_parquet:
        _show(fleet, found)
        console.print(
            "Most of what was looked into is Parquet, which no rule reads: it is not adopted. Where messages lie "
            "beside it, say a pattern that fits them alone by --layout (docs/layouts.md).",
            soft_wrap=True,
        )
        sys.exit(1)
    listed = inventories(aws, found.table) if found.table.may_have_inventory else None
    if listed and listed.best:
        found = replace(found, table=replace(found.table, inventory=listed.best.address))
    _show(fleet, found)
    for line in sentences(listed) if listed else ():
        console.print(plain(line, 2000), soft_wrap=True)
    if not _fitting(fleet, found, write=write):
        sys.exit(1)
    if write:
        _write(found)


def _key(fleet: Fleet, bucket: str, prefix: str) -> str:
    """Return a key that no rule has: the last folder, with the bucket before it where another has that."""
    folder = prefix.rstrip("/").rpartition("/")[2]
    said, longer = (_spelled(each) for each in (folder or bucket, f"{bucket}_{folder}" if folder else bucket))
    taken = {rule.key.casefold() for rule in fleet.rules}
    names = (said, longer, *(f"{longer}_{number}" for number in range(2, 1000)))
    return next(name for name in names if name.casefold() not in taken)


def _spelled(text: str) -> str:
    said = re.sub(r"[^a-zA-Z0-9_]", "_", text)[-50:]
    return said if re.match("[a-zA-Z]", said) else f"old_{said}"


def _show(fleet: Fleet, found: Found) -> None:
    rule = found.table
    layout = rule.key_layout
    least = "" if found.whole else "at least "
    table = Table("", title=f"s3://{rule.bucket}")
    table.add_column("", overflow="fold")
    usd = fleet.requests_usd(found.get_requests, found.list_requests)
    rows = {
        "layout": f"{rule.layout if rule.layout and '{' not in rule.layout else 'none of a name'}"
        + (f": {layout.text}" if layout else f": {rule.raw_prefix}/ and the keys of the CDK app"),
        "an object is": "lines, a message each" if rule.has_lines else "a message",
        "keys that fit": f"{found.fitting:,} of {least}{found.keys:,} ({found.fitting / found.keys:.1%})",
        "names end in": ", ".join(f"{ending or 'nothing'} ({count:,})" for ending, count in found.endings),
        "bytes": f"{least}{found.bytes:,}",
        "hours": f"{least}{found.hours:,}"
        + (f", {found.first.partition_key} to {found.last.partition_key}" if found.first and found.last else ""),
        "devices": f"{least}{found.devices:,}, such as {found.some_device!r}"
        if found.devices
        else "the keys name none",
        "a listing for an hour": _listing(found),
        "to compact all of it": (
            f"{least}{found.get_requests:,} GET and {found.list_requests:,} LIST requests, {usd:.4f} USD"
        ),
        "looked into": "; ".join(found.kinds) or "no object",
    }
    for name, text in rows.items():
        table.add_row(name, plain(text, 2000))
    console.print(table)
    if found.foreign:
        console.print(_foreign(found), soft_wrap=True)
    for line in _remarks(fleet, found):
        console.print(plain(line, 2000), soft_wrap=True)
    if not found.is_parquet:
        console.print(as_toml(rule), soft_wrap=True)


def _remarks(fleet: Fleet, found: Found) -> Iterator[str]:
    """Yield what is good to know before the rule is written."""
    if not says_a_time(found.table):
        yield "The keys say no time: an object is of the hour in which it was written or copied there."
    if found.wider != found.table and (layout := found.wider.key_layout):
        less = "less of the time" if says_a_time(found.wider) else "no time"
        yield f"--layout '{layout.text}' fits {found.wider_fitting:,} keys, and says {less}."
    if found.hours_off:
        yield (
            f"Nearly all objects were written {abs(found.hours_off)} h "
            f"{'after' if found.hours_off > 0 else 'before'} the hour that their keys say: it is taken for UTC. If it "
            "is local time, as by Firehose's CustomTimeZone, the lake's hours will be local, too."
        )
    if not found.whole:
        yield "There are more keys than were listed: the counts are those of a part."
    if found.first and (early := f"{found.first.start:%Y-%m-%d}") < fleet.start:
        yield (
            f"Some hours lie before FLEET_START, {fleet.start}, and are not compacted: set it to {early} or earlier "
            "for all of them."
        )
    if unread := found.kinds.count(NO_JSON):
        yield (
            f"{unread} of {len(found.kinds)} objects that were looked into are no JSON: such a message is a row with "
            "the status malformed, its bytes in _payload, unless the rule says its `encoding` (docs/layouts.md)."
        )
    if found.table.has_lines and {*found.kinds} == {ONE_GZIP}:
        yield (
            "Each object that was looked into is a gzip of one message. They are read as lines, so an empty one is no "
            'row. Where none ever has more than one message, objects = "message" and encoding = "gzip" make a row of '
            "each."
        )


def _foreign(found: Found) -> str:
    named = ", ".join(plain(repr(each), 200) for each in found.others)
    named += ", …" if found.foreign > len(found.others) else ""
    if found.foreign == 1:
        return f"1 key does not fit: {named}; it is foreign"
    return f"{found.foreign:,} keys do not fit: {named}; they are foreign"


def _listing(found: Found) -> str:
    layout = found.table.key_layout
    extent = layout.extent if layout else "hour"
    of_time = {"hour": "its own keys", "all": "all keys, whatever their hour"}.get(extent, f"the keys of its {extent}")
    return of_time + (f", in each of {found.folders:,} folders" if found.folders else "")


def _fitting(fleet: Fleet, found: Found, *, write: bool) -> bool:
    """Say whether the fleet can have the rule. Raises InvalidSetting where it is to be written and cannot."""
    try:
        settings.read_fleet(os.environ, _file())  # of settings without a rule of AWS IoT's another fleet stands here
        replace(fleet, rule_tables=(*fleet.rule_tables, found.table))
    except InvalidSetting as error:
        if write:
            raise
        console.print(plain(f"It cannot be written as it is: {error}"), soft_wrap=True)
        return False
    return True


def _file() -> Path:
    return settings.find_file(os.environ, Path.cwd(), Path.home())


def _write(found: Found) -> None:
    file = _file()
    if os.environ.get("FLEET_RULES"):
        raise InvalidSetting(
            "FLEET_RULES", None, f"this variable wins over {file}: add the rule to it, or take it away"
        )
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    coming = file.with_name(f".{file.name}.coming")
    coming.write_text(
        f"{before}{'' if before.endswith(chr(10)) or not before else chr(10)}\n{as_toml(found.table)}", "utf-8"
    )
    try:
        settings.read_fleet(os.environ, coming)
        coming.replace(file)
    finally:
        coming.unlink(missing_ok=True)
    console.print(f"{found.table.key} is in {file}: `fleet compact` reads it from now on", soft_wrap=True)
