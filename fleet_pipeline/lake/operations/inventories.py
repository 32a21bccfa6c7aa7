"""The inventories that are configured of a bucket that exists, and which of them a rule can be read from.

Nothing is configured here, and no inventory is read: a configuration that fits may not have delivered yet.
Source: Amazon S3 API Reference, ListBucketInventoryConfigurations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.model.errors import AwsRefused, InvalidSetting
from fleet_pipeline.model.rule_table import RuleTable

FORMATS = ("Parquet", "ORC", "CSV")
"""What is read, the smallest first."""

FIELDS = ("Size", "LastModifiedDate", "ETag")
"""The optional fields that are needed."""

_HINT = (
    "Keys do not go with the time alone: with `inventory` an hour is read from an S3 Inventory of all versions, a day "
    "later and at four requests"
)
_UNSEEN = {"AccessDenied", "MethodNotAllowed", "NotImplemented"}
"""Whoever looks has no right to it, or the store is another than Amazon S3 and has no inventories."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A configuration of an inventory, as far as a rule is concerned."""

    name: str
    """Its id."""
    address: str
    """Where S3 writes it, as `inventory` of a rule says it."""
    why_not: str
    """Why the rule cannot be read from it; empty where it can."""
    weekly: bool
    format: str
    key: str
    """The KMS key by which its lists are encrypted; empty for none."""


@dataclass(frozen=True, slots=True)
class Inventories:
    """The configurations of a bucket: first those that fit, the best of them first."""

    configured: tuple[Configured, ...] = ()
    unseen: str = ""
    """Why they could not be looked at, in AWS's words."""

    @property
    def best(self) -> Configured | None:
        """The one from which the rule is read best: daily before weekly, and then by its format."""
        return next((each for each in self.configured if not each.why_not), None)


def inventories(aws: Aws, table: RuleTable) -> Inventories:
    """Return the inventories that are configured of a rule's bucket: one request for a hundred. Where whoever looks may
    not see them, or the store has none, that is said in `unseen`. Raises AwsRefused for other answers.
    """
    try:
        found = [_judged(aws.account, table, each) for each in _configurations(aws, table.bucket)]
    except AwsRefused as error:
        if error.code not in _UNSEEN:
            raise
        return Inventories(unseen=str(error))
    return Inventories(tuple(sorted(found, key=_worth)))


def sentences(listed: Inventories) -> list[str]:
    """Return what people are told: which inventories there are, which one the rule names, and why not the others."""
    lines = [f"{_HINT} (docs/layouts.md)."]
    if listed.unseen:
        lines.append(
            f"Which are configured was not seen: {listed.unseen}. Whoever looks needs s3:GetInventoryConfiguration."
        )
    elif not listed.configured:
        lines.append("None is configured for this bucket.")
    return [*lines, *(_sentence(each, is_best=each == listed.best) for each in listed.configured)]


def _sentence(each: Configured, *, is_best: bool) -> str:
    if each.why_not:
        return f"{each.name} does not fit: {each.why_not}."
    key = f", encrypted by {each.key}, of which whoever compacts needs kms:Decrypt" if each.key else ""
    kind = f"{'weekly' if each.weekly else 'daily'}, {each.format}{key}"
    if is_best:
        return f"{each.name} fits ({kind}), and the rule names it: leave `inventory` out to list the bucket instead."
    return f"{each.name} fits, too ({kind}): {each.address}"


def _configurations(aws: Aws, bucket: str) -> Iterator[Any]:
    """Yield them page by page; botocore has no paginator for them."""
    following: dict[str, str] = {}
    while True:
        with doing(f"list the inventory configurations of bucket {bucket!r}"):
            page: Mapping[str, Any] = aws.s3.list_bucket_inventory_configurations(Bucket=bucket, **following)
        yield from page.get("InventoryConfigurationList", [])
        if not page.get("IsTruncated") or not page.get("NextContinuationToken"):
            return
        following = {"ContinuationToken": page["NextContinuationToken"]}


def _worth(each: Configured) -> tuple[bool, bool, int, str]:
    form = FORMATS.index(each.format) if each.format in FORMATS else len(FORMATS)
    return bool(each.why_not), each.weekly, form, each.name


def _judged(account: str, table: RuleTable, said: Mapping[str, Any]) -> Configured:
    place = said["Destination"]["S3BucketDestination"]
    prefix = place.get("Prefix", "")
    bucket = place["Bucket"].rpartition(":")[2]
    address = f"s3://{bucket}/{prefix}{'/' if prefix else ''}{table.bucket}/{said['Id']}/"
    return Configured(
        said["Id"],
        address,
        _why_not(account, table, said, address),
        said.get("Schedule", {}).get("Frequency") == "Weekly",
        place.get("Format", ""),
        place.get("Encryption", {}).get("SSEKMS", {}).get("KeyId", ""),
    )


def _why_not(account: str, table: RuleTable, said: Mapping[str, Any], address: str) -> str:
    place = said["Destination"]["S3BucketDestination"]
    layout = table.key_layout
    begins = layout.literal if layout else ""
    kept, owner, form = said.get("Filter", {}).get("Prefix", ""), place.get("AccountId", account), place.get("Format")
    lacking = [name for name in FIELDS if name not in said.get("OptionalFields", [])]
    reasons = {
        "it is disabled": not said.get("IsEnabled"),
        "it has the current versions alone, and each version is a message": said.get("IncludedObjectVersions") != "All",
        f"its lists are {form}, and {', '.join(FORMATS)} are read": form not in FORMATS,
        f"it lacks the fields {', '.join(lacking)}": bool(lacking),
        f"it has the keys below {kept!r} alone, and the rule's begin with {begins!r}": not begins.startswith(kept),
        f"it is written into a bucket of account {owner}, and buckets of {account} are read": owner != account,
        "its prefix ends with a slash, and where S3 writes it then is not known here: see where it lies, and name that "
        "yourself": place.get("Prefix", "").endswith("/"),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if not found:
        try:
            replace(table, inventory=address)
        except InvalidSetting as error:
            found = [error.why]
    return "; ".join(found)
