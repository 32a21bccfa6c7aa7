"""What many tests need: one AWS on this machine for the session, and a fleet and an account of its own for each test."""

import gc
import os
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import settings

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.local import daemon
from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.model.fleet import Fleet

BASE = Fleet()

ICEBERG_JARS = "ICEBERG_SPARK_JARS"
"""Names Iceberg's runtime for the Spark that is installed, `iceberg-spark-runtime-3.5_2.12-….jar`; several with commas."""

# Until all tests are collected nearly all that is made stays, and to look for garbage in it takes half a second each time.
gc.disable()

# Machines are loaded, so no deadlines; CI tries the same examples each time, people always new ones.
settings.register_profile("here", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("here")


def pytest_collection_modifyitems(items):
    """Mark what needs AWS on this machine, or goes the whole way: `make quick` leaves it out.

    Files of a few long tests come first, so that no worker is left with one when the others are done.
    """
    for item in items:
        if "local_aws" in item.fixturenames or item.path.parent.name in {"end_to_end", "local"}:
            item.add_marker("whole")
    items.sort(key=lambda item: item.path.parent.name not in {"end_to_end", "project"})


def pytest_collection_finish():
    """Look for garbage from here on, and not among what was imported: it stays until the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    folder = ServerFolder.of(home)
    folder.path.mkdir(mode=0o700)
    folder.secret.write_text(Aws.__dataclass_fields__["secret"].default)  # so that tests and their processes know it
    folder.secret.chmod(0o600)
    yield daemon.ensure_running(home, account=BASE.account, region=BASE.region)
    daemon.stop(home)


@pytest.fixture(scope="session")
def make_fleet(local_aws, tmp_path_factory):
    """Make a fleet with an account, buckets and a home of its own, in which the session's server runs."""

    def make(**settings):
        home = tmp_path_factory.mktemp("home")
        (home / "local-aws").symlink_to(local_aws.ca_path.parent)
        unique = uuid.uuid4().int
        own = {"account": f"{unique % 10**12:012d}", "bucket": f"fleet-{unique:032x}"[:40], "home": str(home)}
        return replace(BASE, **(own | settings), lake_bucket="")

    return make


@pytest.fixture
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the `fleet` command with the settings of a fleet; return its exit code and what it said."""

    def run(fleet, *arguments):
        monkeypatch.chdir(tmp_path)
        given = {
            "FLEET_ACCOUNT": fleet.account,
            "FLEET_BUCKET": fleet.bucket,
            "FLEET_HOME": fleet.home,
            "FLEET_SERIAL_PREFIX": fleet.serial_prefix,
        }
        result = CliRunner().invoke(fleet_command, arguments, env={**os.environ, **given, "COLUMNS": "200"})
        return result.exit_code, result.output + (
            "" if isinstance(result.exception, SystemExit | None) else str(result.exception)
        )

    return run


@contextmanager
def dagster_instance(home):
    """A Dagster instance that keeps what it is told on the disk, the events of all runs in one database, as Postgres does."""
    import dagster as dg  # noqa: PLC0415 (three seconds that most files do without)

    events = {
        "module": "dagster._core.storage.event_log",
        "class": "ConsolidatedSqliteEventLogStorage",
        "config": {"base_dir": str(home / "events")},
    }
    with dg.instance_for_test({"event_log_storage": events}, temp_dir=str(home)) as instance:
        yield instance


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory):
    """The folder of a Dagster instance in which nothing has happened. To make its tables costs a second, to copy them
    nothing.
    """
    home = tmp_path_factory.mktemp("dagster")
    with dagster_instance(home) as instance:
        instance.get_runs()
        instance.all_instigator_state()
    return home


@pytest.fixture
def instance(empty_instance, tmp_path):
    """A Dagster instance of the test's own."""
    home = tmp_path / "dagster-instance"
    shutil.copytree(empty_instance, home)
    with dagster_instance(home) as instance:
        yield instance


@pytest.fixture
def aws(fleet, local_aws):
    return Aws(region=fleet.region, account=fleet.account, endpoint_url=local_aws.url)


@pytest.fixture(scope="session")
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="PySpark is not installed (pip install pyspark; needs Java 17)")
    builder = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.jars", os.environ.get(ICEBERG_JARS, ""))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
    )
    session = (
        builder.config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .getOrCreate()
    )
    yield session
    session.stop()
