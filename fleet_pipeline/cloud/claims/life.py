"""What becomes of a claim certificate: replaced while the old one still works, retired, revoked, or lent for five
minutes.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud.claims.certificates import (
    CERTIFICATE,
    FOLDER,
    Claim,
    Claims,
    Held,
    delete_versions,
    former_pems,
    held,
    set_status,
    status,
)
from fleet_pipeline.cloud.claims.keys import certificate_id as id_of
from fleet_pipeline.cloud.claims.making import finish, replace_current
from fleet_pipeline.cloud.reconcile import patiently
from fleet_pipeline.cloud.spreading import Sleep, delete_certificate
from fleet_pipeline.model.errors import (
    AwsUnavailable,
    ClaimNotRetired,
    ClaimStillNeeded,
    InvalidName,
    NoClaimCertificate,
    WhichClaim,
)
from fleet_pipeline.model.fleet import Fleet

LENT_FOR = timedelta(minutes=5)
"""How long a certificate of CreateProvisioningClaim works. Source: API_CreateProvisioningClaim."""


@dataclass(frozen=True, slots=True)
class RegisteredBy:
    """A vehicle that was registered with a claim certificate: its thing, and each certificate that the thing has."""

    thing_name: str
    certificate_id: str
    status: str
    created: datetime


def rotate(fleet: Fleet, aws: Aws, *, sleep: Sleep = time.sleep) -> str:
    """Give out a new claim certificate beside the old one, which works until it is retired; return the new one's id.

    A rotation that was stopped is finished, and no other begun. Raises NoClaimCertificate when there is none to
    replace, ClaimNotRetired while the current one works and an older one, too.
    """
    given_out = patiently(lambda: _rotated(fleet, aws), sleep)
    patiently(lambda: _check_shown(aws, given_out), sleep)  # until then a retirement would find that nothing works
    return given_out


def _rotated(fleet: Fleet, aws: Aws) -> str:
    claims = Claims.of(fleet)
    with doing("rotate the claim certificate"):
        finished = finish(claims, aws)
        if finished:
            return finished
        found = held(claims, aws)
        if not any(each.current for each in found):
            raise NoClaimCertificate(f"s3://{fleet.bucket}/{CERTIFICATE}")
        former_ones = [each for each in found if each.status == "ACTIVE" and not each.current]
        if former_ones and _current_works(found):
            raise ClaimNotRetired(former_ones[0].certificate_id)
        return replace_current(claims, aws)


def _check_shown(aws: Aws, certificate_id: str) -> None:
    with doing("show the new claim certificate"):
        if status(aws, certificate_id) is None:
            raise AwsUnavailable(
                "show the new claim certificate", "NotYetVisible", f"AWS IoT does not know {certificate_id} yet"
            )


def retire(fleet: Fleet, aws: Aws, certificate_id: str = "", *, sleep: Sleep = time.sleep) -> list[str]:
    """Deactivate and delete the former claim certificates, or the one that is named, with their keys; return their ids,
    none the second time.

    Raises ClaimStillNeeded when only a former one works and none is named, InvalidName for one that is no former claim
    certificate of this fleet.
    """
    gone: list[str] = []
    patiently(lambda: _retire(fleet, aws, certificate_id, gone, sleep), sleep)
    return gone


def _retire(fleet: Fleet, aws: Aws, certificate_id: str, gone: list[str], sleep: Sleep) -> None:
    """Retire what the tries before this one, which `gone` names, have not."""
    claims = Claims.of(fleet)
    with doing("retire the former claim certificates"):
        finish(claims, aws)
        found = [each for each in held(claims, aws) if each.certificate_id not in gone]
        hidden = _hidden(claims, aws, {*gone, *(each.certificate_id for each in found)})
        if hidden and certificate_id in {"", *hidden}:
            why = f"AWS IoT does not list {hidden[0]} among those of the claim policy yet, and it has it"
            raise AwsUnavailable("retire the former claim certificates", "NotYetVisible", why)
        retired = (
            [] if certificate_id in gone else _named(found, certificate_id) if certificate_id else _all_former(found)
        )
        for each in retired:
            delete(claims, aws, each, sleep)
            gone.append(each.certificate_id)
        if not hidden and len(retired) == len([each for each in found if not each.current]):
            # otherwise keys of others are among the versions
            delete_versions(aws, claims.bucket, f"{FOLDER}/", noncurrent_only=True)


def _hidden(claims: Claims, aws: Aws, known: Collection[str]) -> list[str]:
    """Return the ids of certificates that were given out before, have the claim policy and are not on its list: a
    listing may be behind.
    """
    given_out = {id_of(pem) for pem in former_pems(aws, claims.bucket)} - {*known}
    return sorted(each for each in given_out if claims.policy_name in _policies(aws, claims.arn(each)))


def _policies(aws: Aws, arn: str) -> list[str]:
    with absent("ResourceNotFoundException"):
        pages = aws.iot.get_paginator("list_attached_policies").paginate(target=arn)
        return [policy["policyName"] for page in pages for policy in page["policies"]]
    return []


def _all_former(found: Sequence[Held]) -> list[Held]:
    retired = [each for each in found if not each.current]
    works = [each for each in retired if each.status == "ACTIVE"]
    if works and not _current_works(found):
        raise ClaimStillNeeded(works[0].certificate_id)
    return retired


def _named(found: Sequence[Held], certificate_id: str) -> list[Held]:
    former_ones = [each for each in found if not each.current]
    if certificate_id not in {each.certificate_id for each in former_ones}:
        raise InvalidName(
            "former claim certificate",
            certificate_id,
            f"there are {', '.join(each.certificate_id for each in former_ones) or 'none'}",
        )
    return [each for each in former_ones if each.certificate_id == certificate_id]


def _current_works(found: Sequence[Held]) -> bool:
    return any(each.current and each.status == "ACTIVE" for each in found)


def former(claims: Claims, aws: Aws) -> list[Held]:
    """Return the claim certificates that are no longer given out."""
    return [each for each in held(claims, aws) if not each.current]


def delete(claims: Claims, aws: Aws, each: Held, sleep: Sleep = time.sleep) -> None:
    """Deactivate, forget the key, delete: stopped anywhere, the policy still names the certificate, and the next run
    goes on.
    """
    set_status(aws, each.certificate_id, "INACTIVE")
    claims.keys.delete(aws, each.certificate_pem)
    with absent("ResourceNotFoundException"):
        delete_certificate(aws, each.certificate_id, sleep)


def revoke(fleet: Fleet, aws: Aws, certificate_id: str = "") -> str:
    """Revoke a claim certificate, or the only one that works, and return its id: AWS IoT ends its connections and the
    hook refuses it from now on.

    It stays, so that nothing makes a new one by itself, and is not activated again. Raises NoClaimCertificate when
    there is none, WhichClaim when several work and none is named, InvalidName for a certificate that is no claim
    certificate of this fleet.
    """
    claims = Claims.of(fleet)
    with doing("revoke a claim certificate"):
        found = held(claims, aws)
        revoked = certificate_id or _only_one(fleet, found)
        if revoked not in {each.certificate_id for each in found}:
            raise InvalidName(
                "claim certificate",
                revoked,
                f"this fleet has {', '.join(each.certificate_id for each in found) or 'none'}",
            )
        set_status(aws, revoked, "REVOKED")
        return revoked


def _only_one(fleet: Fleet, found: Sequence[Held]) -> str:
    works = [each.certificate_id for each in found if each.status == "ACTIVE"]
    if len(works) > 1:
        raise WhichClaim(tuple(works))
    current = [each.certificate_id for each in found if each.current]
    if not works and not current:
        raise NoClaimCertificate(f"s3://{fleet.bucket}/{CERTIFICATE}")
    return (works or current)[0]


def registered_with(fleet: Fleet, aws: Aws, certificate_id: str, since: datetime) -> Iterator[RegisteredBy]:
    """Yield what was registered with a claim certificate and has a certificate made since then: what a thief of the key
    may have registered.
    """
    with doing("list what was registered with a claim certificate"):
        pages = aws.iot.get_paginator("list_things").paginate(
            attributeName=fleet.registered_by, attributeValue=certificate_id
        )
        for thing in (thing["thingName"] for page in pages for thing in page["things"]):
            yield from (each for each in _certificates(aws, thing) if each.created >= since)


def temporary(fleet: Fleet, aws: Aws) -> Claim:
    """Return a claim certificate for one trusted person, such as a mechanic: it works for five minutes and no list of
    AWS IoT names it.

    The hook believes that it was lent because of an object with its id; without one, it would be a certificate that was
    deleted.
    """
    with doing("give out a temporary claim certificate"):
        _forget_lent(fleet, aws)
        made = aws.iot.create_provisioning_claim(templateName=fleet.template_name)
        aws.s3.put_object(Bucket=fleet.bucket, Key=fleet.temporary_claims_prefix + made["certificateId"], Body=b"")
    return Claim(made["certificatePem"], made["keyPair"]["PrivateKey"])


def _forget_lent(fleet: Fleet, aws: Aws) -> None:
    """Delete what told the hook of certificates that no longer work."""
    over = datetime.now(UTC) - LENT_FOR
    for page in aws.s3.get_paginator("list_object_versions").paginate(
        Bucket=fleet.bucket, Prefix=fleet.temporary_claims_prefix
    ):
        entries: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        for each in entries:
            if each["LastModified"] < over:
                aws.s3.delete_object(Bucket=fleet.bucket, Key=each["Key"], VersionId=each["VersionId"])


def _certificates(aws: Aws, thing: str) -> Iterator[RegisteredBy]:
    with absent("ResourceNotFoundException"):
        pages = aws.iot.get_paginator("list_thing_principals").paginate(thingName=thing)
        for arn in [principal for page in pages for principal in page["principals"]]:
            found = aws.iot.describe_certificate(certificateId=arn.rsplit("/", 1)[1])["certificateDescription"]
            yield RegisteredBy(thing, found["certificateId"], found["status"], found["creationDate"])
