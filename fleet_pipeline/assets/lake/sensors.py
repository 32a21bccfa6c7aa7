"""What happens because something was seen: late messages bring their hour into the lake, and a run whose process is
gone is ended.
"""

import json
from datetime import UTC, datetime

import dagster as dg

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.lake.late_data import check_keys
from fleet_pipeline.assets.lake.partitions import LATE_HOURS, idle, run_requests
from fleet_pipeline.assets.lake.verdicts import ATTEMPTS
from fleet_pipeline.assets.shared.evaluations import Evaluation, last_evaluation
from fleet_pipeline.assets.shared.scope import Own, Scope
from fleet_pipeline.instance import own_process
from fleet_pipeline.lake.ledger import UNCOMPACTED
from fleet_pipeline.model.hour import Hour

INTERVAL_S = 30


def lake_sensors(scope: Scope, own: Own) -> list[dg.SensorDefinition]:
    """Return the sensors of the lake. On this machine they run by themselves; in an account somebody starts them."""
    return [_late_data(scope), _lost_runs(scope, own)]


def _late_data(scope: Scope) -> dg.SensorDefinition:
    fleet = scope.fleet

    @dg.sensor(
        name=scope.name("late_data"),
        job_name=scope.name("compact"),
        minimum_interval_seconds=INTERVAL_S,
        default_status=scope.sensor_status(by_itself=scope.is_local),
        description=(
            f"Asks for the hours of which a look found messages that are not in the lake, at most {ATTEMPTS} times "
            "each. It lists nothing itself."
        ),
        required_resource_keys={scope.account_key},
    )
    def late_data(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        account = scope.account(context.resources)
        seen: dict[str, int] = json.loads(context.cursor or "{}")
        wanted: dict[dg.AssetKey, list[Hour]] = {}
        looks: list[str] = []
        for rule, check in check_keys(scope).items():
            evaluation = last_evaluation(context.instance, check)
            if evaluation is None or evaluation.id == seen.get(rule.key):
                continue
            seen[rule.key] = evaluation.id
            hours = idle(context.instance, parquet.key(scope, rule), fleet, _hours(evaluation))
            if hours:
                wanted[parquet.key(scope, rule)] = parquet.ledger(fleet, account, rule).ask(
                    UNCOMPACTED, hours, ATTEMPTS
                )
            looks.append(str(evaluation.id))
        requests = run_requests(wanted, parquet.own_checks(scope), f"late data of looks {', '.join(looks)}", LATE_HOURS)
        return dg.SensorResult(run_requests=list(requests), cursor=json.dumps(seen))

    return late_data


def _hours(evaluation: Evaluation) -> list[Hour]:
    return [Hour.parse(hour) for hour in evaluation.metadata.get("hours", {})]


def _lost_runs(scope: Scope, own: Own) -> dg.SensorDefinition:
    """Return the sensor that ends runs which were killed together with Dagster, so that they are started again and
    their hours are free.

    The launchers for ECS and Kubernetes are asked by Dagster's run monitoring; its default launcher, which starts
    processes here, cannot tell.
    """

    @dg.sensor(
        name=scope.name("lost_runs"),
        minimum_interval_seconds=INTERVAL_S,
        default_status=scope.sensor_status(by_itself=scope.is_local),
        description="Marks runs as failed whose process on this machine is gone. Run retries then start them again.",
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if context.instance.run_launcher.supports_check_run_worker_health:
            return dg.SkipReason("Dagster itself asks how the processes of its runs are.")
        started = context.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        running = [record for record in started if own.has(record.dagster_run, context.code_location_origin)]
        lost = [record.dagster_run for record in running if _is_lost(context.instance, record)]
        for run in lost:
            context.instance.report_run_failed(
                run, "The run's process is gone: it was killed, or the machine was started anew."
            )
        return dg.SkipReason(f"{len(lost)} of {len(running)} running runs had lost their process.")

    return lost_runs


def _is_lost(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    return own_process.is_gone(record.dagster_run) or own_process.never_began(instance, record, datetime.now(UTC))
