"""What many tests need: one AWS on this machine for the session, and a fleet and an account of its own for each test."""

import os
import uuid
from dataclasses import replace

import pytest
from hypothesis import settings

from fleet_pipeline.aws import Aws
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.local import daemon

BASE = Fleet()

# Machines are loaded, so no deadlines; CI tries the same examples each time, people always new ones.
settings.register_profile("here", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("here")


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    yield daemon.ensure_running(home, account=BASE.account, region=BASE.region)
    daemon.stop(home)


@pytest.fixture
def fleet(local_aws, tmp_path):
    """A home of the test's own, in which the session's server runs."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "local-aws").symlink_to(local_aws.ca_path.parent)
    unique = uuid.uuid4().int
    return replace(BASE, account=f"{unique % 10**12:012d}", bucket=f"fleet-{unique:032x}"[:40], lake_bucket="", home=str(home))


@pytest.fixture
def aws(fleet, local_aws):
    return Aws(region=fleet.region, account=fleet.account, endpoint_url=local_aws.url)


@pytest.fixture(scope="session")
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="PySpark is not installed (pip install pyspark; needs Java 17)")
    builder = sql.SparkSession.builder.master("local[1]").config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    session = builder.config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "1").getOrCreate()
    yield session
    session.stop()
