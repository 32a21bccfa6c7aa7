"""One account of AWS, in the cloud or on this machine. Whoever uses it need not know which."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pyarrow import fs

from fleet_pipeline.aws.clients import Aws, absent, check_whereabouts, doing
from fleet_pipeline.local import daemon
from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.model.fleet import Fleet, Profile
from fleet_pipeline.vehicle.connection import Broker

MQTT_TLS_PORT = 8883
"""AWS IoT Core's port for MQTT with client certificates. Source: AWS IoT Developer Guide, protocols."""

_PATIENCE_S = {"connect_timeout": 10.0, "request_timeout": 60.0}
"""For pyarrow's requests to S3. Its own 3 s without a byte are fewer than a busy server may take."""


@dataclass(frozen=True)
class Account:
    """An account, a region, and the folder where AWS on this machine and its vehicles live."""

    profile: Profile
    account_id: str
    region: str
    home: Path

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """Return the account that a fleet's settings name."""
        return cls(fleet.profile, fleet.account, fleet.region, Path(fleet.home))

    @cached_property
    def aws(self) -> Aws:
        """The clients, once it is certain whose account it is. Starts AWS on this machine if the profile is `local`.

        Raises WrongAccount, AwsRefused or LocalAwsError before anything can be changed.
        """
        aws = (
            Aws(self.region, self.account_id, self._local.url, self._local.secret)
            if self._local
            else Aws(self.region, self.account_id)
        )
        check_whereabouts(aws)
        return aws

    @property
    def is_stopped(self) -> bool:
        """Whether this is AWS on this machine, and it does not run."""
        return self.profile == "local" and daemon.status(self.home) is None

    def has_bucket(self, name: str) -> bool:
        """Whether this account has the bucket.

        Starts nothing: where AWS on this machine does not run, there is none.
        """
        if self.is_stopped:
            return False
        with doing(f"say whether there is a bucket {name!r}"), absent("404", "NoSuchBucket"):
            self.aws.s3.head_bucket(Bucket=name)
            return True
        return False

    @cached_property
    def broker(self) -> Broker:
        """Where vehicles connect."""
        if self._local:
            return Broker(self._local.mqtt_host, self._local.mqtt_port, self._local.ca_path)
        with doing("name its MQTT endpoint"):
            return Broker(
                self.aws.iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"], MQTT_TLS_PORT, None
            )

    def catalog_uri(self, said: str) -> str:
        """Return the address of an Iceberg catalog: the one that the settings say, or that of a database beside AWS on
        this machine.
        """
        return said or f"sqlite:///{ServerFolder.of(self.home).path / f'iceberg-{self.account_id}.db'}?timeout=60"

    @cached_property
    def arrow_filesystem(self) -> fs.S3FileSystem:
        """S3 as pyarrow and pandas read it."""
        if not self._local:
            return fs.S3FileSystem(region=self.region, **_PATIENCE_S)
        where = urlsplit(self._local.url)
        return fs.S3FileSystem(
            access_key=self.account_id,
            secret_key=self._local.secret,
            region=self.region,
            scheme=where.scheme,
            endpoint_override=where.netloc,
            **_PATIENCE_S,
        )

    @cached_property
    def _local(self) -> daemon.LocalAws | None:
        return (
            daemon.ensure_running(self.home, account=self.account_id, region=self.region)
            if self.profile == "local"
            else None
        )
