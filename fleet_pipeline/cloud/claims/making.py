"""How a claim certificate comes to be, so that none is ever left behind that works and that nobody knows of.

A certificate has no name, and the account may be full of other people's. So what is about to be made is written down
first, in an
object that only one can create: the intent. With a key of our own it names the public key, and every certificate of
that key is ours:

    intent → key stored → certificate of that key, inactive → its PEM into the intent → policy → active → PEM in its
    place → intent dropped

Whoever finds an intent finishes it, whatever stopped the one before: forwards once the key is stored, and otherwise
backwards. A key of AWS's (`FLEET_CLAIM_KEYS=aws`) comes with its certificate and is stored after it. Killed between the
two, it leaves an inactive certificate that cannot be told from another team's: it is noted in `LEFT` and reported,
never deleted.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud.claims.certificates import (
    CERTIFICATE,
    FOLDER,
    PUBLIC_KEY,
    Claims,
    delete_versions,
    set_status,
    status,
    stored_certificate_id,
    stored_pem,
)
from fleet_pipeline.cloud.claims.keys import certificate_id, is_of
from fleet_pipeline.cloud.spreading import delete_certificate
from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable

INTENT = f"{FOLDER}/intent.json"

LEFT = f"{FOLDER}/perhaps-left.json"
"""Ids of certificates of which one may be ours, its key lost when its making was killed: a person has to tell."""

LOOKBACK_S = 900
"""How far before an intent certificates are noted: more than the clocks of this machine and of AWS may differ."""


@dataclass(frozen=True)
class Intent:
    """What is being made: since when; of which key, or with a key of AWS's beside which certificates; and in the end
    which certificate it is.
    """

    attempt: str
    since: float
    before: tuple[str, ...] = ()
    certificate_pem: str = ""
    public_key: str = field(default="", repr=False)
    request: str = field(default="", repr=False)
    etag: str = ""

    @property
    def own_key(self) -> bool:
        """Whether the key is ours, and AWS IoT signs a request for it."""
        return bool(self.request)

    @property
    def certificate_id(self) -> str:
        """The id of the certificate that was made."""
        return certificate_id(self.certificate_pem)


def create(claims: Claims, aws: Aws) -> None:
    """Put a new certificate in its place, inactive and without a policy.

    What was begun before is finished, and not begun twice.
    """
    _put_in_place(claims, aws, _made(claims, aws))


def replace_current(claims: Claims, aws: Aws) -> str:
    """Put a new certificate in the place of the current one, which keeps working; return its id.

    The new one works before it is given out.
    """
    intent = _made(claims, aws)
    aws.iot.attach_policy(policyName=claims.policy_name, target=claims.arn(intent.certificate_id))
    set_status(aws, intent.certificate_id, "ACTIVE")
    _put_in_place(claims, aws, intent)
    return intent.certificate_id


def finish(claims: Claims, aws: Aws) -> str | None:
    """Finish what was stopped, forwards once the new key is stored and otherwise backwards; return the id that is given
    out if it came by it.

    A certificate that was revoked meanwhile is not given out: it becomes a former one, and stays revoked.
    """
    intent = read(claims, aws)
    if intent is None:
        return None
    if _is_revoked(aws, intent):
        aws.iot.attach_policy(policyName=claims.policy_name, target=claims.arn(intent.certificate_id))
        _drop(claims, aws)
        return None
    if not _goes_on(claims, aws, intent):
        _undo(claims, aws, intent)
        return None
    if not intent.certificate_pem or intent.certificate_id != stored_certificate_id(aws, claims.bucket):
        return replace_current(claims, aws)
    _drop(claims, aws)
    return intent.certificate_id


def ends_with_a_new_one(claims: Claims, aws: Aws) -> bool:
    """Say whether `finish` would give out another certificate than the one that is given out now. Reads only."""
    intent = read(claims, aws)
    if intent is None or _is_revoked(aws, intent) or not _goes_on(claims, aws, intent):
        return False
    return not intent.certificate_pem or intent.certificate_id != stored_certificate_id(aws, claims.bucket)


def _is_revoked(aws: Aws, intent: Intent) -> bool:
    return bool(intent.certificate_pem) and status(aws, intent.certificate_id) == "REVOKED"


def _goes_on(claims: Claims, aws: Aws, intent: Intent) -> bool:
    return bool(intent.certificate_pem) or (intent.own_key and claims.keys.get(aws, intent.public_key) is not None)


def abandon(claims: Claims, aws: Aws) -> None:
    """Undo what was begun, however far it had come: neither its certificate nor its key is left.

    Nothing happens when nothing was begun.
    """
    intent = read(claims, aws)
    if intent is None:
        return
    if intent.certificate_pem and intent.certificate_id != stored_certificate_id(aws, claims.bucket):
        claims.keys.delete(aws, intent.certificate_pem)
        with absent("ResourceNotFoundException"):
            set_status(aws, intent.certificate_id, "INACTIVE")
            delete_certificate(aws, intent.certificate_id)
    _undo(claims, aws, intent)


def is_unfinished(claims: Claims, aws: Aws) -> bool:
    """Say whether there is an intent."""
    return read(claims, aws) is not None


def left(aws: Aws, bucket: str) -> tuple[str, ...]:
    """Return the ids of certificates of which one may be ours, its key lost: inactive still, and on nothing."""
    noted = _noted(aws, bucket)
    return tuple(each for each in noted if status(aws, each) == "INACTIVE") if noted else ()


def _made(claims: Claims, aws: Aws) -> Intent:
    """Return an intent whose certificate exists, its key stored: the one that was begun, or a new one."""
    found = read(claims, aws)
    if found is not None and found.certificate_pem and status(aws, found.certificate_id):
        return found
    intent = _take_over(claims, aws, found) if found else _begin(claims, aws)
    try:
        return _of_own_key(claims, aws, intent) if intent.own_key else _of_a_key_of_aws(claims, aws, intent)
    except (ClientError, BotoCoreError):
        _undo(claims, aws, intent)
        raise


def _of_own_key(claims: Claims, aws: Aws, intent: Intent) -> Intent:
    """Make the certificate of the intent's key, or find the one that was made."""
    _check_still_ours(claims, aws, intent)
    ours = [each["certificateId"] for each in _ours(claims, aws, intent)]
    pem = _pem(aws, ours[0]) if ours else _signed(claims, aws, intent)
    updated = replace(intent, certificate_pem=pem)
    try:
        _check_still_ours(claims, aws, intent)
        return _write(claims, aws, updated, IfMatch=intent.etag)
    except AwsUnavailable:
        _yield_to_another(claims, aws, updated)
        raise


def _signed(claims: Claims, aws: Aws, intent: Intent) -> str:
    """Let AWS IoT sign the intent's request; return the PEM.

    Raises AwsRefused, and leaves nothing, for a certificate of another key.
    """
    made = aws.iot.create_certificate_from_csr(certificateSigningRequest=intent.request, setAsActive=False)
    if not is_of(made["certificatePem"], intent.public_key):
        aws.iot.delete_certificate(certificateId=made["certificateId"])
        _undo(claims, aws, intent)
        why = "it answered with a certificate of another key"
        raise AwsRefused("sign the claim certificate's key", "AnotherKey", why)
    return made["certificatePem"]


def _yield_to_another(claims: Claims, aws: Aws, ours: Intent) -> None:
    """Delete our certificate, unless who took the intent over has not decided yet which one to use: they look for ours,
    and delete it if not.
    """
    found = read(claims, aws)
    same = found is not None and found.public_key == ours.public_key
    chosen = {
        stored_certificate_id(aws, claims.bucket),
        found.certificate_id if found and found.certificate_pem else None,
    }
    if ours.certificate_id in chosen or (same and found is not None and not found.certificate_pem):
        return
    with absent("ResourceNotFoundException"):
        aws.iot.delete_certificate(certificateId=ours.certificate_id)
    if not same:
        claims.keys.delete(aws, ours.public_key)


def _of_a_key_of_aws(claims: Claims, aws: Aws, intent: Intent) -> Intent:
    made = aws.iot.create_keys_and_certificate(setAsActive=False)
    updated = replace(intent, certificate_pem=made["certificatePem"], public_key=made["keyPair"]["PublicKey"])
    try:
        _check_still_ours(claims, aws, intent)
        claims.keys.put(aws, updated.certificate_pem, made["keyPair"]["PrivateKey"])
        written = _write(claims, aws, updated, IfMatch=intent.etag)
    except (AwsUnavailable, ClientError, BotoCoreError):
        claims.keys.delete(aws, updated.certificate_pem)
        with absent("ResourceNotFoundException"):  # who took the intent over may have deleted it already
            aws.iot.delete_certificate(certificateId=updated.certificate_id)
        raise
    _sweep(
        claims, aws, intent, but=updated.certificate_id
    )  # a call that was repeated because its answer was lost makes two
    return written


def _own_key() -> tuple[str, str, str]:
    """Return a new private key, its public key, and a request for a certificate that is signed with it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "claim certificate")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode(), request.decode()


def _put_in_place(claims: Claims, aws: Aws, intent: Intent) -> None:
    # The PEM goes last: once it is there, the certificate is the one that is given out.
    for key, text in ((PUBLIC_KEY, intent.public_key), (CERTIFICATE, intent.certificate_pem)):
        aws.s3.put_object(Bucket=claims.bucket, Key=key, Body=text.encode())
    if intent.own_key:
        _delete(
            aws,
            [
                each["certificateId"]
                for each in _ours(claims, aws, intent)
                if each["certificateId"] != intent.certificate_id
            ],
        )
    _drop(claims, aws)


def _undo(claims: Claims, aws: Aws, intent: Intent) -> None:
    _sweep(claims, aws, intent)
    if intent.own_key and not _is_given_out(claims, aws, intent):
        claims.keys.delete(aws, intent.public_key)
    _drop(claims, aws)


def _is_given_out(claims: Claims, aws: Aws, intent: Intent) -> bool:
    current = stored_pem(aws, claims.bucket)
    return current is not None and is_of(current, intent.public_key)


def _drop(claims: Claims, aws: Aws) -> None:
    delete_versions(aws, claims.bucket, INTENT)


def _begin(claims: Claims, aws: Aws) -> Intent:
    since = time.time() - LOOKBACK_S
    before = () if claims.own_keys else tuple(each["certificateId"] for each in _since(aws, since))
    return _write_with_key(claims, aws, Intent(uuid.uuid4().hex, since, before), IfNoneMatch="*")


def _take_over(claims: Claims, aws: Aws, found: Intent) -> Intent:
    """Make an intent ours: whoever began it, and is still at work, can no longer write down a certificate."""
    renewed = replace(found, attempt=uuid.uuid4().hex, certificate_pem="")
    if found.own_key and claims.keys.get(aws, found.public_key):
        return _write(claims, aws, renewed, IfMatch=found.etag)
    intent = _write_with_key(claims, aws, replace(renewed, public_key="", request=""), IfMatch=found.etag)
    _sweep(claims, aws, found)
    return intent


def _write_with_key(claims: Claims, aws: Aws, intent: Intent, **condition: Any) -> Intent:
    """Write an intent down, and with a key of our own keep that, too: before its certificate exists."""
    if not claims.own_keys:
        return _write(claims, aws, intent, **condition)
    private, public, request = _own_key()
    written = _write(claims, aws, replace(intent, public_key=public, request=request), **condition)
    try:
        claims.keys.put(aws, public, private)
    except (ClientError, BotoCoreError):
        _undo(claims, aws, written)
        raise
    return written


def read(claims: Claims, aws: Aws) -> Intent | None:
    """Return the intent, or None when nothing is being made."""
    with absent("NoSuchKey", "NoSuchBucket"):
        found = aws.s3.get_object(Bucket=claims.bucket, Key=INTENT)
        written = json.loads(found["Body"].read())
        return Intent(**{**written, "before": tuple(written["before"]), "etag": found["ETag"]})
    return None


def _write(claims: Claims, aws: Aws, intent: Intent, **condition: Any) -> Intent:
    """Write an intent down, unless someone else did in the meantime."""
    body = json.dumps({name: value for name, value in asdict(intent).items() if name != "etag"}).encode()
    with absent("PreconditionFailed", "NoSuchKey"):
        return replace(intent, etag=aws.s3.put_object(Bucket=claims.bucket, Key=INTENT, Body=body, **condition)["ETag"])
    return _check_still_ours(claims, aws, intent)  # it may be ours all the same, its answer lost on the way


def _check_still_ours(claims: Claims, aws: Aws, intent: Intent) -> Intent:
    """Return the intent that is there if it is this one; otherwise someone else is at work. Raises AwsUnavailable."""
    found = read(claims, aws)
    if found is None or replace(found, etag="") != replace(intent, etag=""):
        raise AwsUnavailable(
            "make a claim certificate",
            "ClaimBusy",
            f"someone else is making one at this moment (s3://{claims.bucket}/{INTENT})",
        )
    return found


def _sweep(claims: Claims, aws: Aws, intent: Intent, *, but: str = "") -> None:
    """Delete the certificates that the intent has left, and their keys.

    What may be ours and may be another's is noted, and stays.
    """
    ours = [each["certificateId"] for each in _ours(claims, aws, intent) if each["certificateId"] != but]
    if not intent.own_key:
        for each in ours:
            claims.keys.delete(aws, _pem(aws, each))
        _note(
            claims,
            aws,
            [each["certificateId"] for each in _idle(claims, aws, intent) if each["certificateId"] not in {*ours, but}],
        )
    _delete(aws, ours)


def _delete(aws: Aws, certificates: list[str]) -> None:
    for each in certificates:
        with absent("ResourceNotFoundException"):
            aws.iot.delete_certificate(certificateId=each)


def _ours(claims: Claims, aws: Aws, intent: Intent) -> list[Any]:
    """Return the idle certificates that are certainly the intent's: of its public key, or of a key that we keep."""

    def is_ours(certificate: str) -> bool:
        with absent("ResourceNotFoundException"):  # another's, deleted meanwhile
            pem = _pem(aws, certificate)
            return is_of(pem, intent.public_key) if intent.own_key else claims.keys.get(aws, pem) is not None
        return False

    return [each for each in _idle(claims, aws, intent) if is_ours(each["certificateId"])]


def _idle(claims: Claims, aws: Aws, intent: Intent) -> list[Any]:
    """Return the certificates newer than the intent that are inactive, stand on nothing and are not given out:
    anybody's.
    """
    known = {*intent.before, stored_certificate_id(aws, claims.bucket)}
    newer = [
        each
        for each in _since(aws, intent.since)
        if each["certificateId"] not in known and each["status"] == "INACTIVE"
    ]
    return [each for each in newer if _is_unused(aws, each["certificateArn"])]


def _pem(aws: Aws, certificate: str) -> str:
    return aws.iot.describe_certificate(certificateId=certificate)["certificateDescription"]["certificatePem"]


def _noted(aws: Aws, bucket: str) -> list[str]:
    with absent("NoSuchKey", "NoSuchBucket"):
        noted: list[str] = json.loads(aws.s3.get_object(Bucket=bucket, Key=LEFT)["Body"].read())
        return noted
    return []


def _note(claims: Claims, aws: Aws, certificates: list[str]) -> None:
    noted = _noted(aws, claims.bucket)
    if not {*certificates} <= {*noted}:
        aws.s3.put_object(Bucket=claims.bucket, Key=LEFT, Body=json.dumps(sorted({*noted, *certificates})).encode())


def _is_unused(aws: Aws, arn: str) -> bool:
    with absent("ResourceNotFoundException"):  # its owner may delete it meanwhile
        policies = aws.iot.get_paginator("list_attached_policies").paginate(target=arn)
        things = aws.iot.get_paginator("list_principal_things").paginate(principal=arn)
        return not any(page["policies"] for page in policies) and not any(page["things"] for page in things)
    return False


def _since(aws: Aws, since: float) -> Iterator[Any]:
    """Yield the certificates made since then.

    AWS IoT lists the newest first, and a fleet has many: so not all pages are read.
    """
    for page in aws.iot.get_paginator("list_certificates").paginate(ascendingOrder=False):
        newer = [each for each in page["certificates"] if each["creationDate"].timestamp() >= since]
        yield from newer
        if not newer:
            return
