"""Bulk registration: AWS IoT registers every vehicle of a file, as one task, and reports what it did and what it could
not do.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.documents import filled
from fleet_pipeline.cloud.documents.device import with_device_policies
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.loopback import opener

Report = Literal["RESULTS", "ERRORS"]

PATIENCE_S = 60
"""For each part of a report, which S3 sends."""


@dataclass(frozen=True, slots=True)
class Task:
    """A registration task as it stands. Counts are of vehicles, `percent` of the file."""

    task_id: str
    status: str
    registered: int
    failed: int
    percent: int
    message: str


def start(fleet: Fleet, aws: Aws, requests: Mapping[str, str]) -> str:
    """Start the registration of vehicles, a request for a certificate (CSR) by serial, and return the task's id.

    AWS IoT runs one task of an account at a time. A vehicle that is a thing already is an error in the report; nothing
    of it is changed. Raises InvalidSetting unless bulk registration is on.
    """
    if fleet.bulk_registration == "off":
        raise InvalidSetting(
            "FLEET_BULK_REGISTRATION",
            fleet.bulk_registration,
            "set it to on and run `fleet apply`: AWS IoT needs a role of its own for it",
        )
    body = "".join(
        json.dumps({"SerialNumber": fleet.serial(serial), "CSR": csr}) + "\n" for serial, csr in requests.items()
    ).encode()
    key = f"{fleet.bulk_prefix}/{hashlib.sha256(body).hexdigest()[:16]}.json"
    with doing("start a bulk registration"):
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=body)
        return aws.iot.start_thing_registration_task(
            templateBody=json.dumps(with_device_policies(fleet, filled.bulk_template(fleet))),
            inputFileBucket=fleet.bucket,
            inputFileKey=key,
            roleArn=fleet.role_arn(fleet.bulk_role_name),
        )["taskId"]


def task(aws: Aws, task_id: str) -> Task:
    """Return how far a task is."""
    with doing(f"show registration task {task_id}"):
        found = aws.iot.describe_thing_registration_task(taskId=task_id)
    counts = (found.get("successCount", 0), found.get("failureCount", 0), found.get("percentageProgress", 0))
    return Task(task_id, found["status"], *counts, found.get("message", ""))


def report(aws: Aws, task_id: str, kind: Report) -> Iterator[str]:
    """Yield the parts of a task's report, each lines of JSON; none while AWS IoT has none."""
    with doing(f"show the report of registration task {task_id}"):
        pages = aws.iot.get_paginator("list_thing_registration_task_reports").paginate(taskId=task_id, reportType=kind)
        links = [link for page in pages for link in page["resourceLinks"]]
    for link in links:
        with opener(link).open(link, timeout=PATIENCE_S) as answer:
            yield answer.read().decode()
