"""The partitions of AWS: parts with accounts, ARNs and domains of their own. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of AWS with accounts of its own: its name in ARNs, the domain of its services, and of its console where
    AWS publishes one.
    """

    name: str
    domain: str
    console: str | None


AWS = Partition("aws", "amazonaws.com", "console.aws.amazon.com")
PARTITIONS = {
    "cn": Partition("aws-cn", "amazonaws.com.cn", "console.amazonaws.cn"),
    "us-gov": Partition("aws-us-gov", "amazonaws.com", "console.amazonaws-us-gov.com"),
    "us-iso": Partition("aws-iso", "c2s.ic.gov", None),
    "us-isob": Partition("aws-iso-b", "sc2s.sgov.gov", None),
    "eu-isoe": Partition("aws-iso-e", "cloud.adc-e.uk", None),
    "us-isof": Partition("aws-iso-f", "csp.hci.ic.gov", None),
    "eusc-de": Partition("aws-eusc", "amazonaws.eu", "console.amazonaws-eusc.eu"),
}
"""The partitions beside `aws`, by what their regions' names begin with. A test compares them with botocore's."""
