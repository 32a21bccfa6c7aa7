"""The allow-list of serials: the DynamoDB table, where the settings choose one, and adding to either form of list."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws import Aws, absent, doing
from fleet_pipeline.errors import InvalidSetting
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision import tags as tagging


@dataclass(frozen=True)
class AllowListTable:
    """A table with the key `serial`, paid by request."""

    kind: ClassVar[str] = "DynamoDB table"
    fixed: ClassVar[frozenset[str]] = frozenset({"key"})

    name: str
    arn: str
    tags: dict[str, str]
    key: str = "serial"

    def console_path(self) -> str:
        """The table's page."""
        return f"dynamodbv2/home#table?name={self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the table as it is, or None."""
        with absent("ResourceNotFoundException"):
            table: Any = aws.dynamodb.describe_table(TableName=self.name)["Table"]
            tags = aws.dynamodb.list_tags_of_resource(ResourceArn=self.arn)["Tags"]
            return replace(self, key="+".join(each["AttributeName"] for each in table["KeySchema"]), tags=tagging.found(self.tags, tags))
        return None

    def create(self, aws: Aws) -> None:
        """Make the table and wait until it answers."""
        aws.dynamodb.create_table(
            TableName=self.name,
            AttributeDefinitions=[{"AttributeName": self.key, "AttributeType": "S"}],
            KeySchema=[{"AttributeName": self.key, "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            Tags=tagging.spelled(self.tags),
        )
        aws.dynamodb.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 1})

    def update(self, aws: Aws, _found: Self) -> None:
        """Set the tags again; the key cannot change."""
        aws.dynamodb.tag_resource(ResourceArn=self.arn, Tags=tagging.spelled(self.tags))

    def delete(self, aws: Aws) -> None:
        """Remove the table with its list."""
        aws.dynamodb.delete_table(TableName=self.name)


def add(fleet: Fleet, aws: Aws, serial: str) -> None:
    """Put a serial on the list that the settings choose; a second time changes nothing. Raises InvalidSetting when there is no list."""
    if fleet.allow_list == "none":
        raise InvalidSetting("FLEET_ALLOW_LIST", fleet.allow_list, "there is no list to put a serial on; choose s3 or dynamodb")
    with doing(f"put {serial!r} on the allow-list"):
        if fleet.allow_list == "dynamodb":
            aws.dynamodb.put_item(TableName=fleet.allow_list_table, Item={"serial": {"S": serial}})
        else:
            _edit_lines(aws, fleet.bucket, fleet.allow_list_key, lambda lines: lines if serial in lines else [*lines, serial])


def take_off(fleet: Fleet, aws: Aws, serial: str) -> None:
    """Take a serial off the list, if there is one and the serial is on it."""
    with doing(f"take {serial!r} off the allow-list"):
        if fleet.allow_list == "dynamodb":
            aws.dynamodb.delete_item(TableName=fleet.allow_list_table, Key={"serial": {"S": serial}})
        elif fleet.allow_list == "s3":
            _edit_lines(aws, fleet.bucket, fleet.allow_list_key, lambda lines: [line for line in lines if line != serial])


def allow_replacement(fleet: Fleet, aws: Aws, serial: str) -> None:
    """Let the hook give an existing thing a new certificate once; the hook takes the permission back as it uses it."""
    with doing(f"allow a replacement of {serial!r}"):
        aws.iot.update_thing(thingName=fleet.thing_name(serial), attributePayload={"attributes": {"replacement": "allowed"}, "merge": True})


def _edit_lines(aws: Aws, bucket: str, key: str, edit: Callable[[list[str]], list[str]]) -> None:
    condition: Any = {"IfNoneMatch": "*"}
    lines: list[str] = []
    with absent("NoSuchKey"):
        found = aws.s3.get_object(Bucket=bucket, Key=key)
        condition = {"IfMatch": found["ETag"]}
        lines = found["Body"].read().decode().split()
    if edit(lines) != lines:
        aws.s3.put_object(Bucket=bucket, Key=key, Body="\n".join([*edit(lines), ""]).encode(), **condition)
