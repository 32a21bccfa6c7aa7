"""Production's configuration, run for real as far as one machine goes: Postgres, compute logs in S3, three separate processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest
import yaml
from dagster._config import Shape, process_config
from dagster._core.instance.config import dagster_instance_config_schema
from postgres import free_port, needs_postgres, postgres
from webserver import Webserver

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.local import daemon
from fleet_pipeline.model.fleet import Fleet

DEPLOY = Path(__file__).parents[2] / "deploy"


def configuration(name):
    return yaml.safe_load((DEPLOY / f"dagster.{name}.yaml").read_text())


@pytest.fixture
def settings(monkeypatch):
    """Every variable that a configuration names."""
    for file in DEPLOY.glob("*.yaml"):
        for name in re.findall(r"env: (\w+)", file.read_text()):
            monkeypatch.setenv(name, "5432")


@pytest.mark.parametrize("name", ["aws", "kubernetes"])
def test_what_is_run_here_differs_from_ecs_and_kubernetes_in_the_run_launcher_alone(name):
    here, there = configuration("one-machine"), configuration(name)
    assert {key for key in here | there if here.get(key) != there.get(key)} == {"run_launcher"}


@pytest.mark.parametrize("name", ["one-machine", "aws", "kubernetes"])
def test_dagster_takes_every_configuration(name, settings):
    evaluated = process_config(Shape(dagster_instance_config_schema()), configuration(name))
    assert evaluated.success, evaluated.errors


def test_the_ecs_run_launcher_takes_its_configuration(settings):
    from dagster_aws.ecs import EcsRunLauncher  # noqa: PLC0415 (a second that whoever runs other tests does without)

    evaluated = process_config(Shape(EcsRunLauncher.config_type()), configuration("aws")["run_launcher"]["config"])
    assert evaluated.success, evaluated.errors


def test_the_image_installs_what_was_tested():
    tested = pinned(DEPLOY.parent / "requirements.lock")
    assert pinned(DEPLOY / "requirements.lock").items() <= tested.items()
    assert "ministack" not in pinned(DEPLOY / "requirements.lock")


def pinned(lock):
    return dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^ ;]+)", lock.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def production():
    """Postgres, AWS on this machine with a bucket for logs, and Dagster's three processes with deploy/'s configuration."""
    home = Path(tempfile.mkdtemp(prefix="fleet-production-"))
    home.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        port = stack.enter_context(postgres(home / "postgres"))
        fleet = Fleet(home=str(home / ".fleet"))
        local = daemon.ensure_running(Path(fleet.home), account=fleet.account, region=fleet.region)
        stack.callback(daemon.stop, Path(fleet.home))
        aws = Aws(fleet.region, fleet.account, local.url, local.secret)
        aws.s3.create_bucket(Bucket="compute-logs", CreateBucketConfiguration={"LocationConstraint": fleet.region})
        yield stack.enter_context(dagster(home, port, aws)), port, aws


@contextmanager
def dagster(home, postgres_port, aws):
    shutil.copy(DEPLOY / "dagster.one-machine.yaml", home / "dagster.yaml")
    code, web = free_port(), free_port()
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": aws.account,
        "AWS_SECRET_ACCESS_KEY": aws.secret,
        "AWS_REGION": aws.region,
        "AWS_DEFAULT_REGION": aws.region,
        "AWS_ENDPOINT_URL_S3": aws.endpoint_url,
        "DAGSTER_CODE_HOST": "127.0.0.1",
        "DAGSTER_CODE_PORT": str(code),
        "DAGSTER_COMPUTE_LOG_BUCKET": "compute-logs",
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_DB": "postgres",
        "DAGSTER_POSTGRES_HOST": "127.0.0.1",
        "DAGSTER_POSTGRES_PASSWORD": "",
        "DAGSTER_POSTGRES_PORT": str(postgres_port),
        "DAGSTER_POSTGRES_USER": "dagster",
        "FLEET_AUTOMATION": "off",  # each run of a clock would be a process more
        "FLEET_HOME": str(home / ".fleet"),
    }
    workspace = ["-w", str(DEPLOY / "workspace.yaml")]
    code_server = [
        "dagster",
        "code-server",
        "start",
        "-h",
        "127.0.0.1",
        "-p",
        str(code),
        "-m",
        "fleet_pipeline.definitions",
    ]
    webserver = ["dagster_webserver", "-h", "127.0.0.1", "-p", str(web), *workspace]
    with (home / "dagster.log").open("w") as log, ExitStack() as stack:
        server = Webserver(f"http://127.0.0.1:{web}", Path(log.name))
        server.wait_until_loaded(
            *(stack.enter_context(started(command, environment, home, log)) for command in (code_server, webserver))
        )
        # Two processes that find an empty database would both make its tables, and one would fail.
        stack.enter_context(started(["dagster._daemon", "run", *workspace], environment, home, log))
        yield server


@contextmanager
def started(command, environment, home, log):
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=home,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # A shell that started pytest in the background ignores SIGINT, and dagster maps SIGTERM to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@needs_postgres
def test_a_run_is_queued_by_the_daemon_kept_in_postgres_and_logged_to_s3(production):
    server, port, aws = production
    run = server.launch("provision")
    assert server.finished_runs(1) == ["SUCCESS"]
    with (
        psycopg2.connect(host="127.0.0.1", port=port, user="dagster", dbname="postgres") as database,
        database.cursor() as cursor,
    ):
        cursor.execute("SELECT status FROM runs WHERE run_id = %s", [run])
        assert cursor.fetchall() == [("SUCCESS",)]
        cursor.execute(
            "SELECT count(*) FROM event_logs WHERE run_id = %s AND dagster_event_type = 'ASSET_MATERIALIZATION'", [run]
        )
        assert cursor.fetchall()[0][0] > 10
    keys = [
        each["Key"] for each in aws.s3.list_objects_v2(Bucket="compute-logs", Prefix="dagster/").get("Contents", [])
    ]
    assert any(run in key and key.endswith(".err") for key in keys), keys
    [heartbeats] = server.ask("{instance{daemonHealth{allDaemonStatuses{daemonType healthy required}}}}").values()
    assert {status["healthy"] for status in heartbeats["daemonHealth"]["allDaemonStatuses"] if status["required"]} == {
        True
    }
