"""The topics on which vehicles that keep their own key (CSR), or speak CBOR, ask for a certificate and register.

The emulator knows `certificates/create/json` and `provision/json` alone; AWS IoT has `create-from-csr` too, and both in
JSON and in CBOR. Source: AWS IoT Core Developer Guide, fleet-provision-api. What AWS IoT's error code for a bad request
(CSR) is over MQTT is not known.
"""

# ruff: noqa: SLF001 (the emulator has no other names for what is patched)

import json
import re
import secrets
import time
from http import HTTPStatus
from typing import Any

import cbor2

NAMES = (
    "_OWNERSHIP_TOKEN_SECONDS",
    "_WSSession",
    "_certificates",
    "_create_certificate_from_csr",
    "_drop_expired",
    "_fleet_provisioning_reply",
    "_fleet_rejected",
    "_ownership_tokens",
    "_parse_fleet_provisioning_topic",
)
"""What this patch takes from the emulator."""

_TOPIC = re.compile(
    r"\$aws/(?:certificates/(create|create-from-csr)|provisioning-templates/([^/]+)/provision)/(json|cbor)"
)
_CBOR_ANSWER = re.compile(
    r"\$aws/(certificates/create(-from-csr)?|provisioning-templates/[^/]+/provision)/cbor/(accepted|rejected)"
)

_Answer = tuple[str, dict[str, Any]]


def answer_all_provisioning_topics(iot: Any, responses: Any) -> None:
    """Answer `create-from-csr` beside `create`, and all three operations in CBOR beside JSON."""
    reply, deliver = iot._fleet_provisioning_reply, iot._WSSession.deliver_to_client

    def parse(topic: str) -> tuple[str, str | None] | None:
        found = _TOPIC.fullmatch(topic)
        return (f"{found[1] or 'provision'}/{found[3]}", found[2]) if found else None

    async def provisioning_reply(  # noqa: PLR0913, PLR0917 (the emulator's signature)
        account: str, region: str, operation: str, template: str | None, payload: bytes, connection: Any
    ) -> _Answer:
        name, spelling = operation.split("/")
        said = _json_of(payload) if spelling == "cbor" else payload
        if name != "create-from-csr":
            answered: _Answer = await reply(account, region, name, template, said, connection)
            return answered
        with responses.request_scope(account, region):
            return _certificate_for(iot, said)

    async def deliver_to_client(session: Any, topic: str, payload: bytes, qos: int) -> None:
        if topic.endswith(("/cbor/accepted", "/cbor/rejected")) and _CBOR_ANSWER.fullmatch(topic):
            payload = cbor2.dumps(json.loads(payload))
        await deliver(session, topic, payload, qos)

    iot._parse_fleet_provisioning_topic, iot._fleet_provisioning_reply = parse, provisioning_reply
    iot._WSSession.deliver_to_client = deliver_to_client


def _json_of(payload: bytes) -> bytes:
    """Return what a CBOR payload says, as JSON; what is no CBOR, or says what JSON cannot, becomes what is no JSON
    either.
    """
    try:
        return json.dumps(cbor2.loads(payload)).encode()
    except (cbor2.CBORDecodeError, TypeError, ValueError):
        return b"no CBOR"


def _certificate_for(iot: Any, payload: bytes) -> _Answer:
    """Sign a request for a certificate, which then waits for its registration, as CreateCertificateFromCsr does over
    MQTT.
    """
    try:
        request = json.loads(payload)["certificateSigningRequest"]
    except (ValueError, KeyError, TypeError):
        request = None
    if not isinstance(request, str):
        rejected: _Answer = iot._fleet_rejected("InvalidPayload", "Message cannot be parsed")
        return rejected
    status, _, body = iot._create_certificate_from_csr({"certificateSigningRequest": request}, {})
    made = json.loads(body)
    if status != HTTPStatus.OK:
        refused: _Answer = iot._fleet_rejected(
            "InvalidPayload", made.get("message", "CSR violates constraints"), status
        )
        return refused
    token = secrets.token_urlsafe(48)
    iot._certificates[made["certificateId"]] = {
        **iot._certificates[made["certificateId"]],
        "status": "PENDING_ACTIVATION",
    }
    iot._drop_expired(iot._ownership_tokens)
    iot._ownership_tokens[token] = {
        "certificateId": made["certificateId"],
        "expiration": time.time() + iot._OWNERSHIP_TOKEN_SECONDS,
    }
    return "accepted", {
        "certificateId": made["certificateId"],
        "certificatePem": made["certificatePem"],
        "certificateOwnershipToken": token,
    }
