"""A certificate authority of the user's, registered with AWS IoT: vehicles with its certificates are let in as they
come.

AWS IoT asks for a proof that one has the authority's key: a certificate that it signed for a code of the account
(`fleet ca code`).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.cloud.claims.keys import certificate_id
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet


@dataclass(frozen=True)
class CaCertificate:
    """The authority's certificate; `template_name` is that of just-in-time provisioning, empty for registration by our
    function.
    """

    kind: ClassVar[str] = "CA certificate"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    template_name: str
    tags: dict[str, str]
    pem: str = field(repr=False, compare=False)
    verification_pem: str = field(repr=False, compare=False)
    status: str = "ACTIVE"
    auto_registration: str = "ENABLE"

    def console_path(self) -> str:
        """The authority's page."""
        return f"iot/home#/cacertificate/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the authority as it is registered, or None."""
        with absent("ResourceNotFoundException"):
            found: Any = aws.iot.describe_ca_certificate(certificateId=self.name)
            return replace(
                self,
                template_name=found.get("registrationConfig", {}).get("templateName", ""),
                status=found["certificateDescription"]["status"],
                auto_registration=found["certificateDescription"]["autoRegistrationStatus"],
                tags=tagging.of_iot(self.tags, aws, self.arn),
            )
        return None

    def create(self, aws: Aws) -> None:
        """Register it; AWS IoT checks the proof."""
        aws.iot.register_ca_certificate(
            caCertificate=self.pem,
            verificationCertificate=self.verification_pem,
            setAsActive=self.status == "ACTIVE",
            allowAutoRegistration=self.auto_registration == "ENABLE",
            tags=tagging.spelled(self.tags),
            **self._template(),
        )

    def update(self, aws: Aws, found: Self) -> None:
        """Put back what differs."""
        if found.tags != self.tags:
            aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))
        if replace(found, tags=self.tags) != self:
            status: Any = {"newStatus": self.status, "newAutoRegistrationStatus": self.auto_registration}
            aws.iot.update_ca_certificate(certificateId=self.name, **status, **self._template())

    def delete(self, aws: Aws) -> None:
        """Deactivate and remove it; the vehicles' certificates stay registered."""
        aws.iot.update_ca_certificate(certificateId=self.name, newStatus="INACTIVE")
        aws.iot.delete_ca_certificate(certificateId=self.name)

    def _template(self) -> Any:
        return {"registrationConfig": {"templateName": self.template_name}} if self.template_name else {}


@dataclass(frozen=True)
class Undescribed:
    """A part of the fleet that cannot be described because the authority's files are missing.

    Whoever asks AWS for it is told what is missing.
    """

    kind: ClassVar[str] = "part of the own CA"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    problem: InvalidSetting = field(compare=False)

    @property
    def arn(self) -> str:
        """None is known."""
        return ""

    def console_path(self) -> str:
        """The page of all authorities."""
        return "iot/home#/cacertificates"

    def read(self, aws: Aws) -> Self | None:  # noqa: ARG002 (nothing is asked)
        """Raise InvalidSetting."""
        raise self.problem

    def create(self, aws: Aws) -> None:
        """Raise InvalidSetting."""
        self.read(aws)

    def update(self, aws: Aws, found: Self) -> None:  # noqa: ARG002
        """Raise InvalidSetting."""
        self.read(aws)

    def delete(self, aws: Aws) -> None:
        """Raise InvalidSetting."""
        self.read(aws)


def ca_certificate(fleet: Fleet) -> CaCertificate:
    """Return the authority whose certificates lie in the fleet's home. Raises InvalidSetting when they do not."""
    folder = Path(fleet.home) / "ca"
    try:
        pem, verification = ((folder / name).read_text() for name in ("ca.pem", "verification.pem"))
        ca_id = certificate_id(pem)
    except (FileNotFoundError, ValueError) as error:
        why = (
            f"{folder} needs ca.pem and verification.pem: `fleet ca make` makes both for a trial, docs/provisioning.md "
            "tells of a CA of your own"
        )
        raise InvalidSetting("FLEET_OWN_CA", fleet.own_ca, why) from error
    template = fleet.jitp_template_name if fleet.own_ca == "jitp" else ""
    return CaCertificate(ca_id, fleet.arn("iot", f"cacert/{ca_id}"), template, fleet.all_tags, pem, verification)


def registration_code(aws: Aws) -> str:
    """Return the account's code that the authority must certify."""
    with doing("give the registration code"):
        return aws.iot.get_registration_code()["registrationCode"]
