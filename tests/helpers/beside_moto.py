"""What moto's server lacks, put beside it by a proxy in front: tags of AWS IoT, provisioning templates, temporary claims, bucket policies that are kept and not judged.

moto 5.2.5 raises NotImplementedError for the first three. It judges a bucket's policy without its conditions, so that the usual Deny of calls without TLS refuses every call. All else is moto's own.
"""

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aws_proxy import Call, Proxy, _Handler, _Server
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from serving import serving

from fleet_pipeline.aws.clients import Aws

REGION, ACCOUNT = "eu-central-1", "123456789012"
"""moto's one account."""

TAGGED_AT_CREATION = {
    r"/rules/([^/]+)": "rule",
    r"/policies/([^/]+)": "policy",
    r"/thing-types/([^/]+)": "thingtype",
    r"/thing-groups/([^/]+)": "thinggroup",
    r"/billing-groups/([^/]+)": "billinggroup",
}
"""Paths of POSTs that make what has tags, and what its ARN says that it is."""

OK, SERVERS_ERROR, NOT_IMPLEMENTED = 200, 500, 501
MADE = range(200, 300)

Answer = tuple[int, dict[str, Any] | bytes]


@dataclass
class Template:
    """A provisioning template, with the versions that AWS IoT keeps."""

    told: dict[str, Any]
    versions: dict[int, str]
    default: int = 1


@dataclass
class Beside:
    """What is kept here, and not in moto."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    bucket_policies: dict[str, bytes] = field(default_factory=dict)
    authorities: list[dict[str, Any]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """What moto answered with a server's error: NotImplementedError, most of all."""

    def answer(self, call: Call) -> Answer | None:
        """Return the answer to what moto lacks, or None."""
        address = urlsplit(call.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        body = json.loads(call.body) if call.service == "iot" and call.body.startswith(b"{") else {}
        if "policy" in query and call.service == "s3":
            return self._bucket_policy(call, address.path.split("/")[1])
        if address.path == "/cacertificates":
            return 200, {"certificates": self.authorities}
        if address.path == "/tags" and call.method == "GET":
            held = self.tags.get(query["resourceArn"], {})
            return 200, {"tags": [{"Key": key, "Value": value} for key, value in held.items()]}
        if address.path in {"/tags", "/untag"}:
            return self._tag(body)
        found = re.fullmatch(
            r"/provisioning-templates(?:/([^/]+))?(?:/(versions|provisioning-claim))?(?:/(\d+))?", address.path
        )
        return self._template(call.method, found, body, query) if found else None

    def instead(self, call: Call) -> Call:
        """Return the call as moto takes it: it would sign a request for a certificate with a key of its own, so the certificate is made here and registered there."""
        address = urlsplit(call.path)
        if (call.method, address.path) != ("POST", "/certificates"):
            return call
        pem = _certificate(x509.load_pem_x509_csr(json.loads(call.body)["certificateSigningRequest"].encode()))
        status = "ACTIVE" if dict(parse_qsl(address.query)).get("setAsActive") == "true" else "INACTIVE"
        return Call(
            "POST", "/certificate/register-no-ca", json.dumps({"certificatePem": pem, "status": status}).encode()
        )

    def note(self, call: Call, tagging: str, status: int, body: bytes) -> None:
        """Remember the tags of what moto has made, and what it could not answer."""
        if status == NOT_IMPLEMENTED:
            self.missed.append(call.name)
        path = urlsplit(call.path).path
        if path == "/cacertificate" and status == OK:
            made = json.loads(body)
            self.authorities.append(made)
            self.tags[made["certificateArn"]] = {
                tag["Key"]: tag["Value"] for tag in json.loads(call.body).get("tags", [])
            }
        if path.startswith("/cacertificate/") and call.method == "DELETE" and status == OK:
            self.authorities = [each for each in self.authorities if each["certificateId"] != path.split("/")[2]]
        for form, kind in TAGGED_AT_CREATION.items():
            found = re.fullmatch(form, unquote(urlsplit(call.path).path))
            arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:{kind}/{found[1]}" if found else ""
            if found and call.method == "DELETE" and status in MADE:
                self.tags.pop(arn, None)
            if found and call.method == "POST" and status in MADE:
                sent = json.loads(call.body or b"{}").get("tags", [])
                self.tags[arn] = {tag["Key"]: tag["Value"] for tag in sent} | dict(parse_qsl(tagging))

    def _tag(self, body: dict[str, Any]) -> Answer:
        held = self.tags.setdefault(body["resourceArn"], {})
        held |= {tag["Key"]: tag["Value"] for tag in body.get("tags", [])}
        for key in body.get("tagKeys", []):
            held.pop(key, None)
        return 200, {}

    def _bucket_policy(self, call: Call, bucket: str) -> Answer:
        if call.method == "PUT":
            self.bucket_policies[bucket] = call.body
        if call.method == "DELETE":
            self.bucket_policies.pop(bucket, None)
        if call.method != "GET":
            return 204, b""
        if bucket not in self.bucket_policies:
            return 404, b"<Error><Code>NoSuchBucketPolicy</Code><Message>none</Message></Error>"
        return 200, self.bucket_policies[bucket]

    def _template(self, method: str, found: re.Match[str], body: Any, query: dict[str, str]) -> Answer:
        name, part, version = found.groups()
        if name is None:
            listed = [{"templateName": each, "templateArn": self._arn(each)} for each in self.templates]
            return self._made(body) if method == "POST" else (OK, {"templates": listed})
        template = self.templates.get(name)
        if template is None:
            return 404, {"__type": "ResourceNotFoundException", "message": f"no template {name}"}
        if part is None:
            return OK, self._whole(method, name, template, body)
        if part == "provisioning-claim":
            return OK, _claim()
        return OK, self._of_versions(method, template, int(version or 0), body, query)

    def _whole(self, method: str, name: str, template: Template, body: Any) -> dict[str, Any]:
        if method == "PATCH":
            template.default = body.pop("defaultVersionId", template.default)
            template.told |= body
        if method == "DELETE":
            del self.templates[name]
            self.tags.pop(self._arn(name), None)
        return self._described(name, template) if method == "GET" else {}

    def _of_versions(self, method: str, template: Template, number: int, body: Any, query: dict[str, str]) -> Any:
        if method == "POST":
            number = max(template.versions) + 1
            template.versions[number] = body["templateBody"]
            template.default = number if query.get("setAsDefault") == "true" else template.default
        if method == "DELETE":
            del template.versions[number]
            return {}
        if number:
            return self._version(template, number) | {"templateBody": template.versions[number]}
        return {"versions": [self._version(template, each) for each in template.versions]}

    def _made(self, body: dict[str, Any]) -> Answer:
        name = body["templateName"]
        if name in self.templates:
            return 409, {"__type": "ResourceAlreadyExistsException", "message": f"{name} exists"}
        kept = {key: value for key, value in body.items() if key not in {"templateBody", "tags"}}
        self.templates[name] = Template(kept, {1: body["templateBody"]})
        self.tags[self._arn(name)] = {tag["Key"]: tag["Value"] for tag in body.get("tags", [])}
        return 200, {"templateName": name, "templateArn": self._arn(name), "defaultVersionId": 1}

    def _described(self, name: str, template: Template) -> dict[str, Any]:
        now = {
            "templateArn": self._arn(name),
            "defaultVersionId": template.default,
            "templateBody": template.versions[template.default],
        }
        return template.told | now

    def _version(self, template: Template, number: int) -> dict[str, Any]:
        return {
            "versionId": number,
            "creationDate": datetime.now(UTC).timestamp(),
            "isDefaultVersion": number == template.default,
        }

    def _arn(self, name: str) -> str:
        return f"arn:aws:iot:{REGION}:{ACCOUNT}:provisioningtemplate/{name}"


def _claim() -> dict[str, Any]:
    """Return a certificate as CreateProvisioningClaim does; it is in no listing."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AWS IoT Certificate")]),
    )
    pem = _certificate(x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    made = x509.load_pem_x509_certificate(pem.encode())
    return {
        "certificateId": made.fingerprint(hashes.SHA256()).hex(),
        "certificatePem": pem,
        "keyPair": {"PublicKey": "", "PrivateKey": private},
        "expiration": made.not_valid_after_utc.timestamp(),
    }


AUTHORITY = ec.generate_private_key(ec.SECP256R1())


def _certificate(request: x509.CertificateSigningRequest) -> str:
    """Return a certificate of the request's own key."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "beside moto")]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(request.subject).issuer_name(name).public_key(request.public_key())
    dated = (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(minutes=5))
    )
    return dated.sign(AUTHORITY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@contextmanager
def beside_moto(upstream: str):
    """Serve moto with what it lacks; yield where, what was called, and what is kept here."""
    server = _WithMoto(("127.0.0.1", 0), _Between)
    server.upstream, server.trouble, server.beside = urlsplit(upstream).netloc, lambda _call: None, Beside()
    server.seen = Proxy(f"http://127.0.0.1:{server.server_address[1]}", [], [])
    with serving(server):
        yield server.seen, server.beside


class _WithMoto(_Server):
    beside: Beside


class _Between(_Handler):
    server: _WithMoto

    passed_on: Call | None = None

    def forward(self, call, *, lost):
        given = self.server.beside.answer(call)
        self.passed_on = None if given else call
        if given is None:
            self.sent = self.server.beside.instead(call)
            if call.method == "DELETE" and "forceDelete=true" in call.path:
                self.detached(call.path.split("?")[0].rpartition("/")[2])
            super().forward(self.sent, lost=lost)
            return
        status, body = given
        code = body.get("__type", "") if isinstance(body, dict) else ""
        self.say(
            status,
            {"x-amzn-errortype": code} if code else {},
            body if isinstance(body, bytes) else json.dumps(body).encode(),
        )

    def detached(self, certificate):
        """Take its policies from a certificate: deleted by force, it would keep them in moto, and nobody could take them."""
        direct, target = (
            Aws(REGION, ACCOUNT, f"http://{self.server.upstream}"),
            f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate}",
        )
        for each in direct.iot.list_attached_policies(target=target)["policies"]:
            direct.iot.detach_policy(policyName=each["policyName"], target=target)

    def say(self, status, headers, body):
        status = NOT_IMPLEMENTED if status == SERVERS_ERROR else status  # which botocore does not ask for eight times
        if self.passed_on:
            self.server.beside.note(self.passed_on, self.headers.get("x-amz-tagging", ""), status, body)
            if self.sent is not self.passed_on and status == OK:
                pem = json.loads(self.sent.body)["certificatePem"]
                body = json.dumps(json.loads(body) | {"certificatePem": pem}).encode()
        super().say(status, headers, body)
