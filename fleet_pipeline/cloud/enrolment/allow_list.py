"""The allow-list of serials: the DynamoDB table, where the settings choose one, and adding to either form of list."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud import encryption
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.cloud.enrolment import serial_list
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet

MANY = 1000
"""Serials or objects that are counted; beyond it "more than" is said."""

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class AllowListTable:
    """A table with the key `serial`, paid by request.

    `kms_key` is the ARN of the KMS key that encrypts it; empty: one of AWS's, or whichever it has.
    """

    kind: ClassVar[str] = "DynamoDB table"
    fixed: ClassVar[frozenset[str]] = frozenset({"key"})

    name: str
    arn: str
    tags: dict[str, str]
    key: str = "serial"
    kms_key: str = ""

    def console_path(self) -> str:
        """The table's page."""
        return f"dynamodbv2/home#table?name={self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the table as it is, or None."""
        with absent("ResourceNotFoundException"):
            table: Any = aws.dynamodb.describe_table(TableName=self.name)["Table"]
            pages = aws.dynamodb.get_paginator("list_tags_of_resource").paginate(ResourceArn=self.arn)
            tags = [tag for page in pages for tag in page["Tags"]]
            kms_key = (
                encryption.compared(aws, self.kms_key, table.get("SSEDescription", {}).get("KMSMasterKeyArn", ""))
                if self.kms_key
                else ""
            )
            key = "+".join(each["AttributeName"] for each in table["KeySchema"])
            return replace(self, key=key, tags=tagging.found(self.tags, tags), kms_key=kms_key)
        return None

    def create(self, aws: Aws) -> None:
        """Make the table and wait until it answers."""
        aws.dynamodb.create_table(
            TableName=self.name,
            AttributeDefinitions=[{"AttributeName": self.key, "AttributeType": "S"}],
            KeySchema=[{"AttributeName": self.key, "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            Tags=tagging.spelled(self.tags),
            **self._encrypted(aws),
        )
        self._wait(aws)

    def update(self, aws: Aws, found: Self) -> None:
        """Set the tags again, and encrypt with another key; the table's own key cannot change."""
        if found.tags != self.tags:
            aws.dynamodb.tag_resource(ResourceArn=self.arn, Tags=tagging.spelled(self.tags))
        if found.kms_key != self.kms_key:
            aws.dynamodb.update_table(TableName=self.name, **self._encrypted(aws))
            self._wait(aws)

    def delete(self, aws: Aws) -> None:
        """Remove the table with its list."""
        aws.dynamodb.delete_table(TableName=self.name)

    def _encrypted(self, aws: Aws) -> Any:
        return (
            {
                "SSESpecification": {
                    "Enabled": True,
                    "SSEType": "KMS",
                    "KMSMasterKeyId": encryption.usable(aws, self.kms_key),
                }
            }
            if self.kms_key
            else {}
        )

    def _wait(self, aws: Aws) -> None:
        aws.dynamodb.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 1})


def add(fleet: Fleet, aws: Aws, serial: str) -> None:
    """Put a serial on the list that the settings choose; a second time changes nothing.

    Raises InvalidSetting when there is no list.
    """
    if fleet.allow_list == "none":
        raise InvalidSetting(
            "FLEET_ALLOW_LIST", fleet.allow_list, "there is no list to put a serial on; choose s3 or dynamodb"
        )
    with doing(f"put {serial!r} on the allow-list"):
        if fleet.allow_list == "dynamodb":
            aws.dynamodb.put_item(TableName=fleet.allow_list_table, Item={"serial": {"S": serial}})
        else:
            _edit_object(fleet, aws, lambda text: text if _reads(fleet, text, serial) else _with(fleet, text, serial))


def take_off(fleet: Fleet, aws: Aws, serial: str) -> None:
    """Take a serial off the list, if there is one and the serial is on it."""
    with doing(f"take {serial!r} off the allow-list"):
        if fleet.allow_list == "dynamodb":
            aws.dynamodb.delete_item(TableName=fleet.allow_list_table, Key={"serial": {"S": serial}})
        elif fleet.allow_list == "s3":
            _edit_object(fleet, aws, lambda text: _without(fleet, text, serial))


def allow_replacement(fleet: Fleet, aws: Aws, serial: str) -> None:
    """Let the hook give an existing thing a new certificate once; the hook takes the permission back as it uses it."""
    with doing(f"allow a replacement of {serial!r}"):
        aws.iot.update_thing(
            thingName=fleet.thing_name(serial),
            attributePayload={"attributes": {"replacement": "allowed"}, "merge": True},
        )


def counted(aws: Aws, table: str) -> str:
    """Return in words how many serials a table holds; empty for none, and when there is no such table."""
    with doing(f"count the serials of {table}"), absent("ResourceNotFoundException"):
        count = 0
        for page in aws.dynamodb.get_paginator("scan").paginate(
            TableName=table, Select="COUNT", PaginationConfig={"PageSize": MANY}
        ):
            count += page["Count"]
            if count > MANY:
                return f"more than {MANY} serials of the allow-list"
        return f"{count} serials of the allow-list" if count else ""
    return ""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the hook reads on the list: the serials, and what of it it cannot read, in words."""

    serials: tuple[str, ...]
    unclear: tuple[str, ...]


def read(fleet: Fleet, aws: Aws) -> Listed:
    """Return what the hook reads on the list; nothing when there is none.

    Raises InvalidSetting when the settings choose no list.
    """
    if fleet.allow_list == "none":
        raise InvalidSetting("FLEET_ALLOW_LIST", fleet.allow_list, "there is no list to read; choose s3 or dynamodb")
    with doing("read the allow-list"):
        lines = list(_items(fleet, aws) if fleet.allow_list == "dynamodb" else _lines(fleet, aws))
    serials = tuple(serial for _, found, _ in lines for serial in found)
    return Listed(serials, tuple(f"{where}: {wrong}" for where, _, wrong in lines if wrong))


_Line = tuple[str, list[str], str]
"""Where it stands, its serials, and what is wrong with it."""


def _items(fleet: Fleet, aws: Aws) -> Iterator[_Line]:
    with absent("ResourceNotFoundException"):
        for page in aws.dynamodb.get_paginator("scan").paginate(TableName=fleet.allow_list_table):
            for item in page["Items"]:
                key = item["serial"].get("S", "")
                right = re.fullmatch(fleet.serial_form, key) is not None
                yield f"item {key!r}", [key] if right else [], "" if right else "it is no serial of this fleet"


def _lines(fleet: Fleet, aws: Aws) -> Iterator[_Line]:
    serials = serial_list.module()
    with absent("NoSuchKey"):
        body = aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read()
        try:
            for number, found, wrong in serials.serial_list(body, fleet.serial_form).read():
                yield f"line {number}", found, wrong
        except serials.Unclear as error:
            yield "the list", [], str(error)


def _reads(fleet: Fleet, text: str, serial: str) -> bool:
    return any(serial in found for _, found, _ in serial_list.module().SerialList(text, fleet.serial_form).read())


def _with(fleet: Fleet, text: str, serial: str) -> str:
    line = serial_list.module().SerialList(text, fleet.serial_form).line(serial)
    end = "" if not text or text.endswith(("\n", "\r")) else _line_end(text)
    return f"{text}{end}{line}{_line_end(text)}"


def _without(fleet: Fleet, text: str, serial: str) -> str:
    """Return the text without this serial: its line goes, and what else the line named gets a line of its own."""
    lines = _LINES.findall(text)
    listed = serial_list.module().SerialList(text, fleet.serial_form)
    for number, found, _ in listed.read():
        if serial in found:
            lines[number - 1] = "".join(f"{listed.line(other)}{_line_end(text)}" for other in found if other != serial)
    return "".join(lines)


def _line_end(text: str) -> str:
    return next((end for end in ("\r\n", "\n", "\r") if end in text), "\n")


def _edit_object(fleet: Fleet, aws: Aws, edit: Callable[[str], str]) -> None:
    """Write the list anew if the edit changes it, in its own encoding, and only over what was read."""
    condition: Any = {"IfNoneMatch": "*"}
    text, codec = "", "utf-8"
    with absent("NoSuchKey"):
        found = aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)
        condition = {"IfMatch": found["ETag"]}
        body = found["Body"].read()
        codec = serial_list.module().codec(body)
        text = serial_list.module().decoded(body)
    edited = edit(text)
    if edited != text:
        aws.s3.put_object(
            Bucket=fleet.bucket, Key=fleet.allow_list_key, Body=edited.encode(codec, "surrogateescape"), **condition
        )
