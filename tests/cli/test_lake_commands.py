"""`fleet compact`, `schema`, `raw` and `lake`: the engine from the command line, with exit codes that a script can trust."""

import json
import uuid

import click
import pytest
from click.testing import CliRunner

from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.rows import LARGEST
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

HOUR = Hour.parse("2026-11-20-10:00")
SPAN = ["--from", "2026-11-20-10:00", "--to", "2026-11-20-12:00"]


@pytest.fixture
def run(fleet, aws):
    """Run a command on buckets that hold two messages of the hour."""
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    for offset, body in enumerate((b'{"speed_kmh": 48.2}', b"{broken")):
        aws.s3.put_object(
            Bucket=fleet.bucket,
            Key=fleet.rules[0].raw_key(RawName(HOUR.start_ms + offset, str(uuid.uuid4()))),
            Body=body,
        )
    settings = {
        "FLEET_ACCOUNT": fleet.account,
        "FLEET_BUCKET": fleet.bucket,
        "FLEET_HOME": fleet.home,
        "COLUMNS": "160",
    }
    return lambda *arguments, exit_code=0: expect(
        exit_code, CliRunner().invoke(fleet_command, list(arguments), env=settings)
    )


def expect(exit_code, result):
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result.output


def rows_of(output, rule):
    return next(line.replace("│", " ").split()[1:] for line in output.splitlines() if line.startswith(f"│ {rule}"))


def test_a_dry_run_says_what_compaction_would_cost_and_compaction_does_it_once(run, fleet, aws):
    assert rows_of(run("compact", *SPAN, "--rule", "rule1", "--dry-run"), "rule1")[:3] == ["2", "0", "2"]
    lake = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    assert lake.parts(fleet.rules[0], HOUR) == []
    output = run("compact", *SPAN, "--rule", "rule1")
    assert rows_of(output, "rule1") == ["2", "2", "2", "2", "1", "0"]
    assert "2/2" in output
    assert "2 messages, " in output
    assert rows_of(run("compact", *SPAN, "--rule", "rule1"), "rule1")[:4] == ["2", "2", "0", "2"]
    assert len(lake.parts(fleet.rules[0], HOUR)) == 1
    ddl = run("lake", "ddl", "--rule", "rule1")
    assert "`speed_kmh` double" in ddl
    assert "rule2" not in ddl
    assert "speed_kmh" in run("schema", "show", "--rule", "rule1")


def test_compaction_counts_the_keys_that_it_left_because_no_rule_writes_them(run, fleet, aws):
    for name in (f"{HOUR.start_ms}-oddly", f"{HOUR.start_ms}.json"):
        aws.s3.put_object(Bucket=fleet.bucket, Key=fleet.rules[0].raw_prefix + name, Body=b"{}")
    assert rows_of(run("compact", *SPAN, "--rule", "rule1"), "rule1") == [
        "2",
        "2",
        "2",
        "2",
        "1",
        "2",
    ]


@pytest.mark.parametrize("command", [["compact"], ["compact", "--dry-run"], ["raw", "purge", "--yes"]])
@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        ("2026-11-20-12:00", "2026-11-20-12:00", "--from must be before --to"),
        ("2026-11-21", "2026-11-20", "--from must be before --to"),
        ("2196-11-20", "2196-11-21", "no hour of it has begun"),
        ("2026-11-2", "2026-11-21", "a day as 2026-11-23"),
    ],
)
def test_a_range_without_hours_is_refused(fleet, command, start, end, why):
    refused = CliRunner().invoke(
        fleet_command, [*command, "--from", start, "--to", end], env={"FLEET_ACCOUNT": fleet.account}
    )
    assert isinstance(refused.exception, InvalidName)
    assert why in str(refused.exception)


ENDS = [
    ("--through", "2026-11-20", 24),
    ("--to", "2026-11-21", 24),
    ("--through", "2026-11-20-01:00", 2),
    ("--to", "2026-11-20-01:00", 1),
]


@pytest.mark.parametrize(("option", "end", "hours"), ENDS)
def test_through_includes_its_hour_or_day_and_to_leaves_it_out(run, option, end, hours):
    output = run("compact", "--rule", "rule1", "--from", "2026-11-20", option, end)
    assert rows_of(output, "rule1")[0] == str(hours)


@pytest.mark.parametrize("ends", [[], ["--to", "2026-11-21", "--through", "2026-11-20"]])
def test_a_range_has_one_end(fleet, ends):
    given = ["compact", "--from", "2026-11-20", *ends]
    refused = CliRunner().invoke(fleet_command, given, env={"FLEET_ACCOUNT": fleet.account})
    assert refused.exit_code == 2
    assert "say where it ends" in refused.output


def test_every_command_with_a_range_of_instants_takes_through_and_no_command_means_two_things_by_it():
    ranges = {name: options for name, options in options_of(fleet_command) if "--from" in options}
    assert len(ranges) >= 4
    assert {name for name, options in ranges.items() if "--through" not in options} == set()


def options_of(group, names=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from options_of(command, (*names, name))
        else:
            yield " ".join((*names, name)), {each for option in command.params for each in option.opts}


def test_an_hour_that_cannot_be_compacted_is_named_and_the_others_are_done(run, fleet, aws):
    lake = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    aws.s3.put_object(
        Bucket=fleet.lake_bucket, Key=lake.part_key(fleet.rules[0], HOUR.next, 7), Body=b"", IfNoneMatch="*"
    )
    output = run("compact", *SPAN, "--rule", "rule1", exit_code=1)
    assert "failed rule1 2026-11-20-11:00" in output
    assert rows_of(output, "rule1")[:3] == ["1", "2", "2"]


def test_a_schema_is_pinned_and_a_difference_has_an_exit_code(run, tmp_path):
    run("compact", *SPAN, "--rule", "rule1")
    file = tmp_path / "rule1.json"
    file.write_text(run("schema", "show", "--rule", "rule1", "--json"))
    assert run("schema", "diff", "--rule", "rule1", str(file)) == ""
    run("schema", "pin", "--rule", "rule1", str(file))
    assert json.loads(run("schema", "show", "--rule", "rule1", "--json"))["pinned"] is True
    wanted = json.loads(file.read_text())
    wanted["columns"].append({"name": "doors", "path": ["doors"], "kind": "int64"})
    file.write_text(json.dumps(wanted))
    assert "doors" in run("schema", "diff", "--rule", "rule1", str(file), exit_code=2)


def test_a_purge_deletes_only_what_is_proved_to_be_in_the_lake(run, fleet, aws):
    unproved = run("raw", "purge", *SPAN, "--rule", "rule1", "--yes", exit_code=1)
    assert "failed rule1 2026-11-20-10:00" in unproved
    run("compact", *SPAN, "--rule", "rule1")
    assert rows_of(run("raw", "purge", *SPAN, "--rule", "rule1", "--dry-run"), "rule1") == ["2", "0"]
    assert "Contents" in aws.s3.list_objects_v2(Bucket=fleet.bucket)
    assert rows_of(run("raw", "purge", *SPAN, "--rule", "rule1", "--yes"), "rule1") == ["2", "2"]
    assert "Contents" not in aws.s3.list_objects_v2(Bucket=fleet.bucket)


def test_a_purge_counts_what_stays(run, fleet, aws):
    key = fleet.rules[0].raw_key(RawName(HOUR.start_ms + 7, str(uuid.uuid4())))
    aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=b"x" * (LARGEST + 1))
    run("compact", *SPAN, "--rule", "rule1")
    said = run("raw", "purge", *SPAN, "--rule", "rule1", "--yes")
    assert rows_of(said, "rule1") == ["3", "2"]
    assert "1 raw versions stay: without an id of their own, too large" in said
    assert [each["Key"] for each in aws.s3.list_objects_v2(Bucket=fleet.bucket)["Contents"]] == [key]


def test_a_rewrite_makes_a_generation_and_switches_to_it(run, fleet, aws):
    run("compact", *SPAN, "--rule", "rule1")
    assert "1 hours would be written from lake/v1/ to lake/v2/" in run("lake", "rewrite", "--dry-run")
    assert "readers use lake/v2/" in run("lake", "rewrite")
    current = Lake.current(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    assert (current.generation, len(current.parts(fleet.rules[0], HOUR))) == (2, 1)
    assert "lake/v2/" in run("lake", "ddl")


def test_an_hour_before_the_first_partition_is_not_compacted_unseen(fleet):
    refused = CliRunner().invoke(
        fleet_command,
        ["compact", "--from", "2025-12-31-23:00", "--to", "2026-01-02"],
        env={"FLEET_START": "2026-01-01"},
    )
    assert isinstance(refused.exception, InvalidName)
    assert "FLEET_START is 2026-01-01" in str(refused.exception)


WITHOUT_A_BUCKET = {
    "compact": ["compact", *SPAN],
    "compact by more processes": ["compact", *SPAN, "--processes", "2"],
    "a forecast": ["compact", *SPAN, "--dry-run"],
    "a verification": ["raw", "purge", "--dry-run", *SPAN],
}


@pytest.mark.parametrize("missing", ["bucket", "lake_bucket"])
@pytest.mark.parametrize("arguments", WITHOUT_A_BUCKET.values(), ids=WITHOUT_A_BUCKET)
def test_a_bucket_that_is_not_there_is_said_once_and_not_of_each_hour(arguments, missing, fleet, aws, command):
    part = {"bucket": "lake_bucket", "lake_bucket": "bucket"}[missing]
    reconcile(blueprint(fleet)[part].resource, aws)
    code, said = command(fleet, *arguments)
    assert code == 1
    assert said.count("NoSuchBucket") == 1
    assert f"in bucket {getattr(fleet, missing)}: " in said
    assert said.endswith("; `fleet apply` makes the buckets that are the fleet's own; any other must be there before")
