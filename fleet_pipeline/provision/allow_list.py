"""The allow-list of serials: the DynamoDB table, where the settings choose one, and adding to either form of list."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws import Aws, absent
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
