"""Lifecycle rules of a bucket: ours by their names, beside those of others, which stay as they are.

S3 keeps all rules of a bucket as one document, so whoever changes one writes all of them. A rule of ours may delete
what need not be proved first: reports, uploads that never ended, delete markers with nothing below. Messages and rows
are no rule's business: by age alone S3 cannot know what is proved.
"""

from collections.abc import Mapping
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.model.fleet import Fleet

OURS = "fleet_pipeline:"
"""What the names of our rules begin with."""

Rules = dict[str, dict[str, Any]]
"""Rules by their names, as S3 has them, without the names."""


def wanted(fleet: Fleet, bucket: str) -> Rules:
    """Return the rules that the settings want on a bucket of the fleet's own."""
    rules: Rules = {}
    if fleet.upload_retention_days:
        rules["uploads"] = _on("", AbortIncompleteMultipartUpload={"DaysAfterInitiation": fleet.upload_retention_days})
    if bucket == fleet.bucket and fleet.report_retention_days:
        # Expired on a bucket with versions is hidden: a day later it is gone, and so is one that a replay has hidden.
        rules["reports"] = _on(
            f"{fleet.errors_prefix}/",
            Expiration={"Days": fleet.report_retention_days},
            NoncurrentVersionExpiration={"NoncurrentDays": 1},
        )
    if bucket == fleet.bucket and fleet.raw_retention_days:
        for prefix in fleet.raw_prefixes:
            # A key may hold a client id; a marker goes only when no version is left below it.
            rules[f"delete-markers:{prefix}"] = _on(f"{prefix}/", Expiration={"ExpiredObjectDeleteMarker": True})
    return {f"{OURS}{name}": rule for name, rule in rules.items()}


def found(aws: Aws, bucket: str) -> Rules:
    """Return our rules that a bucket has."""
    return {each["ID"]: _plain(each) for each in _all(aws, bucket)[0] if each.get("ID", "").startswith(OURS)}


def of_others(aws: Aws, bucket: str) -> list[dict[str, Any]]:
    """Return the rules of a bucket that are not ours."""
    return [each for each in _all(aws, bucket)[0] if not each.get("ID", "").startswith(OURS)]


def put(aws: Aws, bucket: str, rules: Mapping[str, dict[str, Any]]) -> None:
    """Have a bucket hold exactly these rules of ours, and of others those that it has."""
    every, beside = _all(aws, bucket)
    others = [_with_filter(each) for each in every if not each.get("ID", "").startswith(OURS)]
    said: Any = {"Rules": [*others, *({"ID": name} | rule for name, rule in sorted(rules.items()))]}
    if said["Rules"]:
        aws.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=said, **beside)
    else:
        aws.s3.delete_bucket_lifecycle(Bucket=bucket)


def _on(prefix: str, **what: Any) -> dict[str, Any]:
    return {"Status": "Enabled", "Filter": {"Prefix": prefix}, **what}


def _all(aws: Aws, bucket: str) -> tuple[list[Any], dict[str, Any]]:
    """Return every rule, and what is said beside them: from which size on objects are moved to another class."""
    with absent("NoSuchLifecycleConfiguration"):
        said: Any = aws.s3.get_bucket_lifecycle_configuration(Bucket=bucket)
        least = said.get("TransitionDefaultMinimumObjectSize")
        return said.get("Rules", []), {"TransitionDefaultMinimumObjectSize": least} if least else {}
    return [], {}


def _plain(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _with_filter(rule).items() if name != "ID"}


def _with_filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule in the newer of two forms: S3 takes no document that has both, and ours have the newer."""
    if rule.get("Filter"):
        return {name: value for name, value in rule.items() if name != "Prefix"}
    return {name: value for name, value in rule.items() if name != "Prefix"} | {
        "Filter": {"Prefix": rule.get("Prefix", "")}
    }
