"""What others have added beside our resources and that matters: it opens a door which no field of a resource of ours
shows.

It is reported and never taken away: it may be somebody's intent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from itertools import chain
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud import lifecycle_rules
from fleet_pipeline.cloud.claims import making
from fleet_pipeline.cloud.claims.certificates import CERTIFICATE, Claims, Held, held, stored_certificate_id
from fleet_pipeline.cloud.claims.keys import certificate_id
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain


@dataclass(frozen=True, slots=True)
class ForeignFinding:
    """Something foreign: beside which part of the blueprint it stands, what it is, and what to do about it."""

    part: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def findings(fleet: Fleet, aws: Aws, part: str | None = None) -> list[ForeignFinding]:
    """Return what stands beside one part, or beside any. Reads only."""
    with doing("show what stands beside the fleet's resources"):
        return [found for name, search in SEARCHES.items() if part in {name, None} for found in search(fleet, aws)]


def _other_policies(fleet: Fleet, aws: Aws) -> Iterator[ForeignFinding]:
    """Whatever else the claim certificate may do, everyone who holds the shared key may do."""
    claim = stored_certificate_id(aws, fleet.bucket)
    arn = Claims.of(fleet).arn(claim or "")
    with absent("ResourceNotFoundException"):
        for page in aws.iot.get_paginator("list_attached_policies").paginate(target=arn) if claim else ():
            for name in (policy["policyName"] for policy in page["policies"]):
                if name != fleet.claim_policy_name:
                    what = (
                        f"the claim certificate {claim} also has the policy {name!r}: whoever holds the shared key may "
                        "do what it allows"
                    )
                    yield ForeignFinding(
                        "claim_attachment",
                        what,
                        f"take it away with `aws iot detach-policy --policy-name {name} --target {arn}`{fleet.by_hand}",
                    )


def _other_claim_certificates(fleet: Fleet, aws: Aws) -> Iterator[ForeignFinding]:
    """An active certificate with the claim policy lets vehicles in, whoever has its key.

    One that a rotation left working is ours.
    """
    others = [each for each in held(Claims.of(fleet), aws) if each.status == "ACTIVE" and not each.current]
    ours = _once_given_out(fleet, aws, others)
    for each in others:
        if each.certificate_id not in ours:
            what = (
                f"the certificate {each.certificate_id} is active, has the claim policy and was never given out by "
                f"this fleet from {fleet.bucket}: vehicles register with it"
            )
            stop = f"aws iot update-certificate --certificate-id {each.certificate_id} --new-status INACTIVE"
            remedy = f"unless it is in vehicles, from a bucket that was the fleet's before, turn it off with `{stop}`"
            yield ForeignFinding("claim_certificate", what, remedy + fleet.by_hand)


def _perhaps_left(fleet: Fleet, aws: Aws) -> Iterator[ForeignFinding]:
    """A making of a claim certificate that was killed may have left one, inactive, its key lost.

    It looks like anybody's.
    """
    for each in making.left(aws, fleet.bucket):
        what = (
            f"the certificate {each} is inactive and on nothing; it was made while the making of a claim certificate "
            "was killed, and may be what that left"
        )
        delete = f"aws iot delete-certificate --certificate-id {each}"
        remedy = f"if nobody else made it, delete it with `{delete}`{fleet.by_hand}"
        yield ForeignFinding(
            "claim_certificate", what, f"{remedy}; if somebody did, delete s3://{fleet.bucket}/{making.LEFT}"
        )


def _rules_that_delete(part: str) -> Callable[[Fleet, Aws], Iterator[ForeignFinding]]:
    """A lifecycle rule deletes by age alone: messages that are no rows yet, and rows of the lake, without a word."""

    def search(fleet: Fleet, aws: Aws) -> Iterator[ForeignFinding]:
        raw = part == "bucket"
        bucket = fleet.bucket if raw else fleet.lake_bucket
        prefixes = [f"{each}/" for each in (fleet.raw_prefixes if raw else [fleet.parquet_prefix])]
        with absent("NoSuchBucket"):
            for rule in () if bucket in fleet.given else lifecycle_rules.of_others(aws, bucket):
                if rule.get("Status") == "Enabled" and _deletes(rule, prefixes):
                    name = plain(rule.get("ID", ""), 100)
                    what = (
                        f"bucket {bucket} has the lifecycle rule {name!r}, which deletes messages or rows by their age"
                    )
                    yield ForeignFinding(
                        part, what, "take it away: what is proved first goes by FLEET_RAW_RETENTION_DAYS"
                    )

    return search


def _deletes(rule: Mapping[str, Any], prefixes: Sequence[str]) -> bool:
    """Whether a rule deletes versions below one of the prefixes."""
    deletes = {"Days", "Date"} & {*rule.get("Expiration", {})} or "NoncurrentVersionExpiration" in rule
    filtered = rule.get("Filter", {})
    own = filtered.get("Prefix", filtered.get("And", {}).get("Prefix", rule.get("Prefix", "")))
    return bool(deletes) and any(own.startswith(prefix) or prefix.startswith(own) for prefix in prefixes)


def _both(
    *searches: Callable[[Fleet, Aws], Iterator[ForeignFinding]],
) -> Callable[[Fleet, Aws], Iterator[ForeignFinding]]:
    return lambda fleet, aws: chain.from_iterable(search(fleet, aws) for search in searches)


def _once_given_out(fleet: Fleet, aws: Aws, asked: Sequence[Held]) -> set[str]:
    """Return those of the certificates whose PEM the bucket still has a version of.

    The ETag tells, which is the PEM's MD5 where no key of KMS encrypts the bucket. Versions are read for what it does
    not tell, until all are found.
    """
    if not asked:
        return set()
    versions: list[Any] = []
    with absent("NoSuchBucket"):
        pages = aws.s3.get_paginator("list_object_versions").paginate(Bucket=fleet.bucket, Prefix=CERTIFICATE)
        versions += [version for page in pages for version in page.get("Versions", []) if not version["IsLatest"]]
    etags = {version["ETag"].strip('"') for version in versions}
    known = {
        each.certificate_id
        for each in asked
        if md5(each.certificate_pem.encode(), usedforsecurity=False).hexdigest() in etags
    }
    left = {each.certificate_id for each in asked} - known
    for version in versions if left else ():
        body = aws.s3.get_object(Bucket=fleet.bucket, Key=CERTIFICATE, VersionId=version["VersionId"])["Body"]
        known.add(certificate_id(body.read().decode()))
        if left <= known:
            break
    return known


SEARCHES: Mapping[str, Callable[[Fleet, Aws], Iterator[ForeignFinding]]] = {
    "bucket": _rules_that_delete("bucket"),
    "lake_bucket": _rules_that_delete("lake_bucket"),
    "claim_attachment": _other_policies,
    "claim_certificate": _both(_other_claim_certificates, _perhaps_left),
}
"""What is looked for, by the part of the blueprint beside which it stands."""
