"""Kill an action with SIGKILL before or after each of its writing calls to AWS, run again what would be run again, and
tell what there is then.

A kill at a reading call, or before a writing one, leaves what the kill after the writing call before it has left, unless
another team makes something in between. A process of its own, because it forks: `python tests/helpers/crashes.py URL
ACTION before-send,after-call` prints one line of JSON for each kill.
"""

import json
import os
import signal
import sys
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count

from aws_calls import READING, watch
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims import life, making
from fleet_pipeline.cloud.claims.certificates import CERTIFICATE, PUBLIC_KEY, Claims, held, stored_certificate_id
from fleet_pipeline.cloud.claims.keys import PRIVATE_KEY
from fleet_pipeline.cloud.documents import filled
from fleet_pipeline.cloud.kinds.attachment import PolicyAttachment
from fleet_pipeline.cloud.kinds.claim_certificate import ClaimCertificate
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.model.errors import ClaimNotRetired
from fleet_pipeline.model.fleet import Fleet


@dataclass(frozen=True)
class Certificate:
    """One certificate of the account."""

    status: str
    has_policy: bool
    has_key: bool
    current: bool


@dataclass(frozen=True)
class Crash:
    """One kill, and what there was: at once, after the next run, and what yet another run wrote."""

    killed: str
    at_once: list[Certificate]
    then: list[Certificate]
    objects: list[str]
    versions: int
    written_again: list[str]
    neighbours: int
    neighbours_lost: list[str]
    noted: list[str]


@dataclass
class Killer:
    """Counts the writing calls once it is armed, and ends the process at one of them, before or after it."""

    when: str
    calls_left: int | None = field(default=None)
    tell: int = field(default=0)

    def __call__(self, event_name, **_):
        if self.calls_left is not None and not event_name.rpartition(".")[2].startswith(READING):
            if self.calls_left == 0:
                os.write(self.tell, event_name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            self.calls_left -= 1


class Neighbour:
    """Another team of the account: it makes an inactive certificate that stands on nothing, before, after and amid our own making of one."""

    NAME = "another team"

    def __init__(self, killer):
        self.killer, self.busy = killer, False
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.NAME)])
        self.request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(subject)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
            .decode()
        )

    def make(self, aws):
        """Make one, at a call of ours that does not count."""
        left, self.killer.calls_left, self.busy = self.killer.calls_left, None, True
        aws.iot.create_certificate_from_csr(certificateSigningRequest=self.request, setAsActive=False)
        self.killer.calls_left, self.busy = left, False

    def beside(self, aws):
        """Make one before and after each certificate of ours."""

        def make(**_):
            if not self.busy:
                self.make(aws)

        for call in ("CreateCertificateFromCsr", "CreateKeysAndCertificate"):
            for when in ("before-call", "after-call"):
                aws.iot.meta.events.register_first(f"{when}.iot.{call}", make)

    def has(self, pem):
        """Whether a certificate is one of theirs."""
        return self.NAME in x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()


def nothing(fleet, aws):
    """There is nothing before."""


def create(fleet, aws):
    claims = Claims.of(fleet)
    for resource in (ClaimCertificate(claims, claims.stored), PolicyAttachment(claims)):
        reconcile(resource, aws)


def made(fleet, aws):
    """There is a claim certificate that works."""
    claims = Claims.of(fleet)
    for resource in (ClaimCertificate(claims, claims.stored), PolicyAttachment(claims)):
        resource.create(aws)


def rotate_again(fleet, aws):
    with suppress(ClaimNotRetired):  # the rotation was over when it was killed
        life.rotate(fleet, aws)


def rotated(fleet, aws):
    """There are two that work."""
    made(fleet, aws)
    life.rotate(fleet, aws)


def create_as_the_cdk_app(fleet, aws):
    """Active first, then stored, then attached; a second run does what it can see is missing."""
    claims = Claims.of(fleet)
    if stored_certificate_id(aws, fleet.bucket) is None:
        made = aws.iot.create_keys_and_certificate(setAsActive=True)
        for key, text in (
            (CERTIFICATE, made["certificatePem"]),
            (PUBLIC_KEY, made["keyPair"]["PublicKey"]),
            (PRIVATE_KEY, made["keyPair"]["PrivateKey"]),
        ):
            aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=text.encode())
    aws.iot.attach_policy(policyName=claims.policy_name, target=claims.arn(stored_certificate_id(aws, fleet.bucket)))


ACTIONS = {
    "create": (nothing, create, create),
    "rotate, then apply": (made, life.rotate, create),
    "rotate, then rotate": (made, life.rotate, rotate_again),
    "retire": (rotated, life.retire, life.retire),
    "create as the CDK app": (nothing, create_as_the_cdk_app, create_as_the_cdk_app),
}
"""What there is before, what is killed, and what is run again."""


def crashes(url, action, *whens, **settings):
    """Yield a Crash for each call of an action: `before-send`, `after-call`, or both."""
    prepare, killed, again = ACTIONS[action]
    killers = {when: Killer(when) for when in whens}
    aws = Aws(Fleet().region, f"{uuid.uuid4().int % 10**12:012d}", url)
    for when, killer in killers.items():
        aws.session.events.register(when, killer)
    calls = watch(aws.session)
    for when, killer in killers.items():
        neighbour = Neighbour(killer)
        for number in count():
            fleet = _fleet(aws, **settings)
            prepare(fleet, aws)
            neighbour.make(aws)
            at = _killed(lambda fleet=fleet: killed(fleet, aws), killer, number, aws, neighbour)
            if not at:
                break
            theirs, at_once = _theirs(aws, neighbour), _certificates(fleet, aws, neighbour)
            again(fleet, aws)
            then = _certificates(fleet, aws, neighbour)
            calls.made.clear()
            again(fleet, aws)
            lost = sorted(theirs - _theirs(aws, neighbour))
            noted = list(making.left(aws, fleet.bucket))
            yield Crash(
                f"{when} {at}", at_once, then, *_objects(fleet, aws), list(calls.writing), len(theirs), lost, noted
            )
            _forget(aws)
        _forget(aws)


def _fleet(aws, **settings):
    """A fleet of its own in the one account, with what a claim certificate stands on."""
    unique = uuid.uuid4().hex
    fleet = replace(
        Fleet(), account=aws.account, environment=unique[:8], bucket=f"crash-{unique}", lake_bucket="", **settings
    )
    aws.s3.create_bucket(Bucket=fleet.bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    aws.s3.put_bucket_versioning(Bucket=fleet.bucket, VersioningConfiguration={"Status": "Enabled"})
    aws.iot.create_policy(policyName=fleet.claim_policy_name, policyDocument=json.dumps(filled.claim_policy(fleet)))
    return fleet


def _killed(action, killer, number, aws, neighbour):
    """Return the call at which a child that does the action was killed; nothing when the action was over before."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        for client in (aws.iot, aws.s3, aws.secrets):
            client.close()  # the parent's connections are the parent's
        neighbour.beside(aws)
        killer.calls_left, killer.tell = number, write
        action()
        os._exit(0)
    os.close(write)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(read) as pipe:
        at = pipe.read()
    assert ended == (-signal.SIGKILL if at else 0)
    return at.split(".", 1)[-1] if at else ""


def _certificates(fleet, aws, neighbour):
    claims = Claims.of(fleet)
    ours, theirs = {each.certificate_id: each for each in held(claims, aws)}, _theirs(aws, neighbour)
    return [
        _certificate(claims, aws, listed, ours)
        for listed in aws.iot.list_certificates()["certificates"]
        if listed["certificateId"] not in theirs
    ]


def _theirs(aws, neighbour):
    listed = [each["certificateId"] for each in aws.iot.list_certificates()["certificates"]]
    return {each for each in listed if neighbour.has(_pem(aws, each))}


_PEMS: dict[str, str] = {}
"""A certificate's text, by its id, which is its hash: it is asked for once, as it never changes."""


def _pem(aws, certificate_id):
    if certificate_id not in _PEMS:
        described = aws.iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
        _PEMS[certificate_id] = described["certificatePem"]
    return _PEMS[certificate_id]


def _certificate(claims, aws, listed, ours):
    policies = aws.iot.list_attached_policies(target=listed["certificateArn"])["policies"]
    key = claims.keys.get(aws, _pem(aws, listed["certificateId"]))
    known = ours.get(listed["certificateId"])
    return Certificate(listed["status"], bool(policies), key is not None, known is not None and known.current)


def _objects(fleet, aws):
    found = aws.s3.list_object_versions(Bucket=fleet.bucket)
    return [each["Key"] for each in found.get("Versions", []) if each["IsLatest"]], len(
        found.get("Versions", [])
    ) + len(found.get("DeleteMarkers", []))


def _forget(aws):
    for each in aws.iot.list_certificates()["certificates"]:
        aws.iot.update_certificate(certificateId=each["certificateId"], newStatus="INACTIVE")
        aws.iot.delete_certificate(certificateId=each["certificateId"], forceDelete=True)


if __name__ == "__main__":
    url, chosen, whens, *wanted = sys.argv[1:]
    for crash in crashes(url, chosen, *whens.split(","), **dict(each.split("=") for each in wanted)):
        sys.stdout.write(json.dumps(asdict(crash)) + "\n")
