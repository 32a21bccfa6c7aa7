"""What a busy machine costs: time, and no run."""

import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import RunLauncher
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._serdes import ConfigurableClass

CODE = JobPythonOrigin("work", RepositoryPythonOrigin(sys.executable, ModuleCodePointer(__name__, "work")))
REPOSITORY = Path(__file__).parents[2]
CONFIGURATIONS = [
    path.relative_to(REPOSITORY).as_posix()
    for path in (REPOSITORY / "dagster.yaml", *sorted((REPOSITORY / "deploy").glob("dagster.*.yaml")))
]


class OfABusyMachine(RunLauncher, ConfigurableClass):
    """A launcher whose code server does not answer in time."""

    inst_data = None

    @classmethod
    def config_type(cls):
        return {}

    @classmethod
    def from_config_value(cls, *_):
        return cls()

    def launch_run(self, _):
        raise DagsterUserCodeUnreachableError("Deadline Exceeded")

    def terminate(self, run_id):
        raise NotImplementedError


@dg.job
def work():
    pass


@pytest.mark.whole
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_run_whose_code_server_does_not_answer_goes_back_into_the_queue(name):
    coordinator = yaml.safe_load((REPOSITORY / name).read_text())["run_coordinator"]
    launcher = {"module": __name__, "class": OfABusyMachine.__name__}
    with dg.instance_for_test({"run_coordinator": coordinator, "run_launcher": launcher}) as instance:
        origin = RemoteJobOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("ours"), "__repository__"), work.name
        )
        run = instance.create_run_for_job(
            work, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin, job_code_origin=CODE
        )
        instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_ENQUEUED.value, work.name), run.run_id)
        QueuedRunCoordinatorDaemon(1)._dequeue_run(instance, None, run, instance.get_concurrency_config(), 0.0)
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.QUEUED
