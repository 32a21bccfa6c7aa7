"""What the hook would answer to a request, tried here: its zip in a process of its own, with its own settings, asking
AWS and changing nothing.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims.certificates import stored_certificate_id
from fleet_pipeline.cloud.kinds.function import Function
from fleet_pipeline.model.fleet import Fleet

LIMIT_S = 20
"""For the process: the hook's own deadline, and the start of Python on a busy machine."""

MADE_UP_CLAIM = "f" * 64
"""The id of a claim certificate in a fleet that has none yet."""

_RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import things
things.IotThings.create = things.IotThings.change = lambda *_: True  # a trial reserves nothing
if sys.argv[2] == "no claim yet":
    things.IotThings.certificate_status = lambda *_: "ACTIVE"
import lambda_function
json.dump(lambda_function.lambda_handler(json.load(sys.stdin), None), sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """What the hook answered, and why, as `fleet vehicle why` would show it."""

    allowed: bool
    reason: str
    claim_made_up: bool = False
    """Whether the fleet has no claim certificate yet, and the hook was told of one that there is not."""


def asked(fleet: Fleet, aws: Aws, event: Mapping[str, Any]) -> HookAnswer:
    """Return the answer to an event as AWS IoT sends it.

    What it leaves out is filled in: our template, the claim certificate, a certificate's id. Before the first apply
    there is no claim certificate: then one is made up, and taken for active.

    The reservation of the thing is left out. Whoever asks needs the hook's rights to read. An end without an answer is
    a refusal, as AWS IoT takes it.
    """
    hook: Any = blueprint(fleet)["hook"].resource
    with doing("find the claim certificate"):
        claim = stored_certificate_id(aws, fleet.bucket)
    made_up = claim is None and "claimCertificateId" not in event
    usual: dict[str, Any] = {
        "claimCertificateId": claim or MADE_UP_CLAIM,
        "certificateId": "0" * 64,
        "templateArn": fleet.template_arn,
        "clientId": "trial",
        "parameters": {},
    }
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        with zipfile.ZipFile(io.BytesIO(hook.code)) as archive:
            archive.extractall(folder)
        answer = _answer(folder, {**usual, **event}, _environment(hook, aws), "no claim yet" if made_up else "")
    return replace(answer, claim_made_up=made_up)


def _answer(folder: str, event: Mapping[str, Any], environment: Mapping[str, str], claim: str) -> HookAnswer:
    command = [sys.executable, "-I", "-c", _RUN, folder, claim]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=json.dumps(event),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        return HookAnswer(allowed=False, reason=f"the hook did not answer within {LIMIT_S} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode or len(lines) < len(("log", "answer")):
        return HookAnswer(
            allowed=False,
            reason=(
                "the hook ended without an answer: "
                f"{(done.stderr.strip().splitlines() or ['nothing was said'])[-1][:200]}"
            ),
        )
    return HookAnswer(json.loads(lines[-1]).get("allowProvisioning") is True, json.loads(lines[-2])["reason"])


def _environment(hook: Function, aws: Aws) -> dict[str, str]:
    """Return what Lambda would give the process: the function's settings, the region, credentials."""
    given = aws.session.get_credentials()
    frozen: Any = given.get_frozen_credentials() if given else None
    credentials = (
        {
            "AWS_ACCESS_KEY_ID": frozen.access_key,
            "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
            "AWS_SESSION_TOKEN": frozen.token,
        }
        if frozen
        else {}
    )
    where = {
        "AWS_DEFAULT_REGION": aws.region,
        "AWS_REGION": aws.region,
        "AWS_ENDPOINT_URL": aws.endpoint_url,
        "PATH": os.environ.get("PATH", ""),
    }
    return {**hook.environment, **{name: text for name, text in {**where, **credentials}.items() if text}}
