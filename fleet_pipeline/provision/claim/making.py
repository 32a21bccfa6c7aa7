"""How a claim certificate comes to be, so that none is ever left behind that works and that nobody knows of.

AWS IoT gives out a private key once, and a certificate has no name. So what is about to be made is written down first, in an object
that only one can create: the intent. Then, one after the other:

    intent → certificate, inactive → its key stored → its PEM into the intent → policy → active → PEM in its place → intent dropped

Whoever finds an intent finishes it, whatever stopped the one before: with a PEM forwards, and without one backwards, by deleting
the certificates that came after the intent, are inactive and stand on nothing. A certificate works only when its key is stored.
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

from fleet_pipeline.aws import Aws, absent
from fleet_pipeline.errors import AwsUnavailable
from fleet_pipeline.provision.claim.claims import CERTIFICATE, FOLDER, PUBLIC_KEY, Claims, delete_versions, set_status, status, stored_certificate_id
from fleet_pipeline.provision.claim.keys import certificate_id

INTENT = f"{FOLDER}/intent.json"

LOOKBACK_S = 900
"""How far before an intent certificates are noted: more than the clocks of this machine and of AWS may differ."""


@dataclass(frozen=True)
class Intent:
    """What is being made: since when, beside which certificates; and once its key is stored, which certificate it is."""

    attempt: str
    since: float
    before: tuple[str, ...]
    certificate_pem: str = ""
    public_key: str = field(default="", repr=False)
    etag: str = ""

    @property
    def certificate_id(self) -> str:
        """The id of the certificate that was made."""
        return certificate_id(self.certificate_pem)


@dataclass(frozen=True)
class _Made:
    certificate_pem: str
    public_key: str
    private_key: str = field(repr=False)


def create(claims: Claims, aws: Aws) -> None:
    """Put a new certificate in its place, inactive and without a policy. What was begun before is finished, and not begun twice."""
    _put_in_place(claims, aws, _made(claims, aws))


def replace_current(claims: Claims, aws: Aws) -> str:
    """Put a new certificate in the place of the current one, which keeps working; return its id. The new one works before it is given out."""
    intent = _made(claims, aws)
    aws.iot.attach_policy(policyName=claims.policy_name, target=claims.arn(intent.certificate_id))
    set_status(aws, intent.certificate_id, "ACTIVE")
    _put_in_place(claims, aws, intent)
    return intent.certificate_id


def finish(claims: Claims, aws: Aws) -> str | None:
    """Finish what was stopped, forwards once the new key is stored and otherwise backwards; return the id that is given out if it came by it."""
    intent = _read(claims, aws)
    if intent is None:
        return None
    if not intent.certificate_pem:
        _undo(claims, aws, intent)
        return None
    if intent.certificate_id != stored_certificate_id(aws, claims.bucket):
        return replace_current(claims, aws)
    _drop(claims, aws)
    return intent.certificate_id


def abandon(claims: Claims, aws: Aws) -> None:
    """Undo what was begun, however far it had come: neither its certificate nor its key is left. Nothing happens when nothing was begun."""
    intent = _read(claims, aws)
    if intent is None:
        return
    if intent.certificate_pem and intent.certificate_id != stored_certificate_id(aws, claims.bucket):
        claims.keys.delete(aws, intent.certificate_pem)
        with absent("ResourceNotFoundException"):
            set_status(aws, intent.certificate_id, "INACTIVE")
            aws.iot.delete_certificate(certificateId=intent.certificate_id, forceDelete=True)
    _undo(claims, aws, intent)


def is_unfinished(claims: Claims, aws: Aws) -> bool:
    """Say whether there is an intent."""
    return _read(claims, aws) is not None


def _made(claims: Claims, aws: Aws) -> Intent:
    """Return an intent whose certificate exists, its key stored: the one that was begun, or a new one."""
    found = _read(claims, aws)
    if found is not None and found.certificate_pem and status(aws, found.certificate_id):
        return found
    intent = _take_over(claims, aws, found) if found else _begin(claims, aws)
    try:
        return _with_certificate(claims, aws, intent)
    except (ClientError, BotoCoreError):
        _undo(claims, aws, intent)
        raise


def _with_certificate(claims: Claims, aws: Aws, intent: Intent) -> Intent:
    made = _with_own_key(aws) if claims.own_keys else _with_key_of_aws(aws)
    told = replace(intent, certificate_pem=made.certificate_pem, public_key=made.public_key)
    try:
        _check_still_ours(claims, aws, intent)
        _sweep(claims, aws, intent, but=told.certificate_id)  # a call that was repeated because its answer was lost makes two
        claims.keys.put(aws, made.certificate_pem, made.private_key)
        return _write(claims, aws, told, IfMatch=intent.etag)
    except AwsUnavailable:
        claims.keys.delete(aws, made.certificate_pem)
        with absent("ResourceNotFoundException"):  # who took the intent over may have deleted it already
            aws.iot.delete_certificate(certificateId=told.certificate_id)
        raise


def _with_key_of_aws(aws: Aws) -> _Made:
    made = aws.iot.create_keys_and_certificate(setAsActive=False)
    return _Made(made["certificatePem"], made["keyPair"]["PublicKey"], made["keyPair"]["PrivateKey"])


def _with_own_key(aws: Aws) -> _Made:
    """Make the key here; AWS IoT sees a request that is signed with it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "claim certificate")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    made = aws.iot.create_certificate_from_csr(certificateSigningRequest=request.decode(), setAsActive=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _Made(made["certificatePem"], public.decode(), private.decode())


def _put_in_place(claims: Claims, aws: Aws, intent: Intent) -> None:
    # The PEM goes last: once it is there, the certificate is the one that is given out.
    for key, text in ((PUBLIC_KEY, intent.public_key), (CERTIFICATE, intent.certificate_pem)):
        aws.s3.put_object(Bucket=claims.bucket, Key=key, Body=text.encode(), ServerSideEncryption="AES256")
    _drop(claims, aws)


def _undo(claims: Claims, aws: Aws, intent: Intent) -> None:
    _sweep(claims, aws, intent)
    _drop(claims, aws)


def _drop(claims: Claims, aws: Aws) -> None:
    delete_versions(aws, claims.bucket, INTENT)


def _begin(claims: Claims, aws: Aws) -> Intent:
    since = time.time() - LOOKBACK_S
    before = tuple(each["certificateId"] for each in _since(aws, since))
    return _write(claims, aws, Intent(uuid.uuid4().hex, since, before), IfNoneMatch="*")


def _take_over(claims: Claims, aws: Aws, found: Intent) -> Intent:
    """Make an intent ours: whoever began it, and is still at work, can no longer write down a certificate."""
    intent = _write(claims, aws, replace(found, attempt=uuid.uuid4().hex, certificate_pem="", public_key=""), IfMatch=found.etag)
    _sweep(claims, aws, intent)
    return intent


def _read(claims: Claims, aws: Aws) -> Intent | None:
    with absent("NoSuchKey", "NoSuchBucket"):
        found = aws.s3.get_object(Bucket=claims.bucket, Key=INTENT)
        told = json.loads(found["Body"].read())
        return Intent(**{**told, "before": tuple(told["before"]), "etag": found["ETag"]})
    return None


def _write(claims: Claims, aws: Aws, intent: Intent, **condition: Any) -> Intent:
    """Write an intent down, unless someone else did in the meantime."""
    body = json.dumps({name: value for name, value in asdict(intent).items() if name != "etag"}).encode()
    with absent("PreconditionFailed", "NoSuchKey"):
        return replace(intent, etag=aws.s3.put_object(Bucket=claims.bucket, Key=INTENT, Body=body, **condition)["ETag"])
    return _check_still_ours(claims, aws, intent)  # it may be ours all the same, its answer lost on the way


def _check_still_ours(claims: Claims, aws: Aws, intent: Intent) -> Intent:
    """Return the intent that is there if it is this one; otherwise someone else is at work. Raises AwsUnavailable."""
    found = _read(claims, aws)
    if found is None or replace(found, etag="") != replace(intent, etag=""):
        raise AwsUnavailable("make a claim certificate", "ClaimBusy", f"someone else is making one at this moment (s3://{claims.bucket}/{INTENT})")
    return found


def _sweep(claims: Claims, aws: Aws, intent: Intent, *, but: str = "") -> None:
    """Delete what the intent has left: certificates newer than it that are inactive and stand on nothing, and their keys."""
    known = {*intent.before, but, stored_certificate_id(aws, claims.bucket)}
    for each in list(_since(aws, intent.since)):
        if each["certificateId"] not in known and each["status"] == "INACTIVE" and _is_unused(aws, each["certificateArn"]):
            pem = aws.iot.describe_certificate(certificateId=each["certificateId"])["certificateDescription"]["certificatePem"]
            claims.keys.delete(aws, pem)
            aws.iot.delete_certificate(certificateId=each["certificateId"])


def _is_unused(aws: Aws, arn: str) -> bool:
    return not aws.iot.list_attached_policies(target=arn)["policies"] and not aws.iot.list_principal_things(principal=arn)["things"]


def _since(aws: Aws, since: float) -> Iterator[Any]:
    """Yield the certificates made since then. AWS IoT lists the newest first, and a fleet has many: so not all pages are read."""
    for page in aws.iot.get_paginator("list_certificates").paginate(ascendingOrder=False):
        newer = [each for each in page["certificates"] if each["creationDate"].timestamp() >= since]
        yield from newer
        if not newer:
            return
