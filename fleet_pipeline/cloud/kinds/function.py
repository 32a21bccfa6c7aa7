"""The Lambda function of the pre-provisioning hook, zipped from its folder."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.model.errors import HookMissing

NAME = "pre_provisioning_hook"
ENTRY = "lambda_function.py"
"""The module that Lambda calls. A folder without it holds no function."""


def source_folder(package: Path) -> Path:
    """Return where the hook's source lies: inside the package, where a wheel puts it, or else beside it in the
    checkout.
    """
    inside = package / NAME
    return inside if inside.is_dir() else package.parent / "lambda" / NAME


HOOK_FOLDER = source_folder(Path(__file__).parents[2])
"""The hook's source."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip file can hold: the same source always gives the same bytes, and so no needless update."""


UNIX = 3
"""The system that a zip file says it was made on, whatever machine it is."""


@dataclass(frozen=True)
class Function:
    """A Python function. What is compared of its code is the SHA-256 that AWS reports.

    `concurrency` is reserved for it, and no more are run at once; `dead_letters` is the ARN of the queue that is told
    of events that it failed on; `subnets` and `security_groups` are those of the VPC into which it can reach. Where
    none is wanted (0, empty), what somebody has set stays.
    """

    kind: ClassVar[str] = "Lambda function"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    description: str
    role_arn: str
    runtime: str
    environment: dict[str, str]
    tags: dict[str, str]
    code_sha256: str
    code: bytes = field(repr=False, compare=False)
    handler: str = "lambda_function.lambda_handler"
    timeout_s: int = 5
    memory_mb: int = 256
    concurrency: int = 0
    dead_letters: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()

    def console_path(self) -> str:
        """The function's page."""
        return f"lambda/home#/functions/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the function as it is, or None."""
        with absent("ResourceNotFoundException"):
            answer = aws.functions.get_function(FunctionName=self.name)
            found = answer["Configuration"]
            return replace(
                self,
                description=found.get("Description", ""),
                role_arn=found["Role"],
                runtime=found["Runtime"],
                environment=found.get("Environment", {}).get("Variables", {}),
                tags={key: value for key, value in answer.get("Tags", {}).items() if key in self.tags},
                code_sha256=found["CodeSha256"],
                handler=found["Handler"],
                timeout_s=found["Timeout"],
                memory_mb=found["MemorySize"],
                concurrency=answer.get("Concurrency", {}).get("ReservedConcurrentExecutions", 0)
                if self.concurrency
                else 0,
                dead_letters=found.get("DeadLetterConfig", {}).get("TargetArn", "") if self.dead_letters else "",
                subnets=_listed(found, "SubnetIds") if self.subnets else (),
                security_groups=_listed(found, "SecurityGroupIds") if self.subnets else (),
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the function and wait until it can be invoked."""
        aws.functions.create_function(
            FunctionName=self.name, Code={"ZipFile": self.code}, Tags=self.tags, **self._configuration()
        )
        aws.functions.get_waiter("function_active_v2").wait(FunctionName=self.name, WaiterConfig=_PATIENCE)
        self._reserve(aws, 0)

    def update(self, aws: Aws, found: Self) -> None:
        """Update its code, its configuration and its tags, each where it differs, and wait for each."""
        if found.tags != self.tags:
            aws.functions.tag_resource(Resource=self.arn, Tags=self.tags)
        if found.code_sha256 != self.code_sha256:
            aws.functions.update_function_code(FunctionName=self.name, ZipFile=self.code)
            self._wait(aws)
        if replace(found, tags=self.tags, code_sha256=self.code_sha256, concurrency=self.concurrency) != self:
            aws.functions.update_function_configuration(FunctionName=self.name, **self._configuration())
            self._wait(aws)
        self._reserve(aws, found.concurrency)

    def delete(self, aws: Aws) -> None:
        """Remove the function; its permissions go with it."""
        aws.functions.delete_function(FunctionName=self.name)

    def _configuration(self) -> Any:
        return {
            "Description": self.description,
            "Role": self.role_arn,
            "Runtime": self.runtime,
            "Handler": self.handler,
            "Timeout": self.timeout_s,
            "MemorySize": self.memory_mb,
            "Environment": {"Variables": self.environment},
            **({"DeadLetterConfig": {"TargetArn": self.dead_letters}} if self.dead_letters else {}),
            **(
                {"VpcConfig": {"SubnetIds": [*self.subnets], "SecurityGroupIds": [*self.security_groups]}}
                if self.subnets
                else {}
            ),
        }

    def _reserve(self, aws: Aws, found: int) -> None:
        if self.concurrency != found:
            aws.functions.put_function_concurrency(
                FunctionName=self.name, ReservedConcurrentExecutions=self.concurrency
            )

    def _wait(self, aws: Aws) -> None:
        aws.functions.get_waiter("function_updated_v2").wait(FunctionName=self.name, WaiterConfig=_PATIENCE)


_PATIENCE: Any = {"Delay": 0.2, "MaxAttempts": 1500}
"""Seconds between two looks, and how many: five minutes in all, as botocore's waiters have by looks a second apart."""


def _listed(found: Any, what: str) -> tuple[str, ...]:
    return tuple(sorted(found.get("VpcConfig", {}).get(what, [])))


def zipped(folder: Path, further: Mapping[str, bytes] | None = None) -> bytes:
    """Return a folder's Python files as a zip, and further files by their names in it, the same bytes for the same
    source on every machine.

    Raises HookMissing where the folder holds no function: a zip without one is valid to AWS, and would end every
    registration.
    """
    if not (folder / ENTRY).is_file():
        raise HookMissing(str(folder))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in [
            *((path.name, path.read_bytes()) for path in sorted(folder.glob("*.py"))),
            *sorted((further or {}).items()),
        ]:
            entry = zipfile.ZipInfo(name, ZIP_EPOCH)
            entry.external_attr, entry.create_system = 0o644 << 16, UNIX
            archive.writestr(entry, source, zipfile.ZIP_STORED)  # compressed bytes differ from one zlib to the next
    return buffer.getvalue()


def sha256_of(code: bytes) -> str:
    """Return a code's SHA-256 as Lambda reports it, in base 64."""
    return base64.b64encode(hashlib.sha256(code).digest()).decode()
