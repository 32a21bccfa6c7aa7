"""What the docs and the errors say is to be done with the lake: each command is run in the state that it repairs, and repairs it."""

import io
import json
import uuid

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

HOUR = Hour.parse("2026-11-20-10:00")
SPAN = ["--from", "2026-11-20-10:00", "--to", "2026-11-20-12:00", "--rule", "rule1"]
COMPACT = ["compact", *SPAN]


class Table:
    """The table of `rule1`, its raw messages, and the command with settings of the fleet's own."""

    def __init__(self, fleet, aws):
        self.fleet, self.aws, self.rule = fleet, aws, fleet.rules[0]
        self.settings = {
            "FLEET_ACCOUNT": fleet.account,
            "FLEET_BUCKET": fleet.bucket,
            "FLEET_HOME": fleet.home,
            "COLUMNS": "300",
        }

    def send(self, *messages, hour=HOUR):
        for message in messages:
            key = self.rule.raw_key(RawName(hour.start_ms + 1, str(uuid.uuid4())))
            self.aws.s3.put_object(Bucket=self.fleet.bucket, Key=key, Body=json.dumps(message).encode())

    def run(self, *arguments, says="", exit_code=0):
        result = CliRunner().invoke(fleet_command, list(arguments), env=self.settings)
        said = f"{result.output}{result.exception or ''}"
        assert result.exit_code == exit_code, said
        assert says in said
        return result.output

    @property
    def lake(self):
        return Lake.current(S3Store(self.aws, self.fleet.lake_bucket), self.fleet.parquet_prefix, self.fleet.form)

    def rows(self, hour=HOUR):
        parts = [
            self.aws.s3.get_object(Bucket=self.fleet.lake_bucket, Key=part.key)["Body"].read()
            for part in self.lake.parts(self.rule, hour)
        ]
        return [row for part in parts for row in pq.read_table(io.BytesIO(part)).to_pylist()]

    def spoil(self, key, body=b"garbage"):
        """Write over an object of the lake; return what takes that version away again."""
        version = self.aws.s3.put_object(Bucket=self.fleet.lake_bucket, Key=key, Body=body)["VersionId"]
        return lambda: self.aws.s3.delete_object(Bucket=self.fleet.lake_bucket, Key=key, VersionId=version)

    def part(self, number=0):
        return self.lake.part_key(self.rule, HOUR, number)


@pytest.fixture
def table(fleet, aws):
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    return Table(fleet, aws)


def test_integers_that_became_decimals_are_doubles_after_a_rewrite_by_an_edited_contract(table, tmp_path):
    table.settings["FLEET_NUMBERS"] = "exact"
    table.send(*[{"speed": 0, "gears": [1]}] * 3)
    table.run(*COMPACT)
    table.send(*[{"speed": 12.5, "gears": [1.5]}] * 3, hour=HOUR.next)
    table.run(*COMPACT)
    assert [(row["speed"], row["_status"]) for row in table.rows(HOUR.next)] == [(None, "partial")] * 3
    file = tmp_path / "rule1.json"
    file.write_text(table.run("schema", "show", "--rule", "rule1", "--json").replace("int64", "double"))
    table.run("schema", "pin", "--rule", "rule1", str(file), says="rewrite the table as a new generation", exit_code=1)
    table.run("lake", "rewrite", "--contract", f"rule1={file}")
    assert [(row["speed"], row["gears"], row["_extra"], row["_status"]) for row in table.rows(HOUR.next)] == [
        (12.5, [1.5], None, "ok")
    ] * 3
    assert [row["speed"] for row in table.rows()] == [0.0] * 3


@pytest.mark.parametrize("numbers", ["exact", "double"])
def test_integers_that_became_decimals_are_doubles_after_a_rewrite_that_learns(table, numbers):
    table.settings["FLEET_NUMBERS"] = "exact"
    table.send(*[{"speed": 0}] * 3)
    table.run(*COMPACT)
    table.send(*[{"speed": 12.5}] * 3, hour=HOUR.next)
    table.run(*COMPACT)
    table.settings["FLEET_NUMBERS"] = numbers
    table.run("lake", "rewrite")
    assert [(row["speed"], row["_status"]) for row in table.rows(HOUR.next)] == [(12.5, "ok")] * 3


def test_ids_of_64_bits_have_a_column_after_a_rewrite_by_a_contract_that_says_decimal(table, tmp_path):
    table.send(*[{"id": 2**64 - 1, "n": 1}] * 3)
    table.run(*COMPACT)
    assert "id" not in table.rows()[0]
    record = json.loads(table.run("schema", "show", "--rule", "rule1", "--json"))
    record["columns"].append({"name": "id", "path": ["id"], "kind": "decimal(20,0)"})
    file = tmp_path / "rule1.json"
    file.write_text(json.dumps(record))
    table.run("lake", "rewrite", "--contract", f"rule1={file}")
    assert [(int(row["id"]), row["_status"]) for row in table.rows()] == [(2**64 - 1, "ok")] * 3


def test_a_table_takes_the_form_that_the_settings_choose_by_a_rewrite(table):
    table.send(*[{"at": {"lat": 1.5}}] * 3)
    table.run(*COMPACT)
    table.settings["FLEET_NESTED_OBJECTS"] = "structs"
    assert '"nested_objects": "columns"' in table.run("schema", "show", "--rule", "rule1", "--json")
    table.run("lake", "rewrite")
    assert '"nested_objects": "structs"' in table.run("schema", "show", "--rule", "rule1", "--json")
    assert [row["at"] for row in table.rows()] == [{"lat": 1.5}] * 3


def test_a_field_that_each_hour_had_too_seldom_is_a_column_after_a_rewrite(table):
    for hour in (HOUR, HOUR.next):
        table.send(*[{"n": 1}] * 8, *[{"n": 1, "rare": "x"}] * 2, hour=hour)
        table.run(*COMPACT)
    assert "rare" not in table.rows()[0]
    table.run("lake", "rewrite")
    assert [sum(row["rare"] == "x" for row in table.rows(hour)) for hour in (HOUR, HOUR.next)] == [2, 2]


def test_a_missing_part_is_restored_and_its_hour_is_compacted_again(table):
    for _ in range(2):
        table.send(*[{"n": 1}] * 3)
        table.run(*COMPACT)
    marker = table.aws.s3.delete_object(Bucket=table.fleet.lake_bucket, Key=table.part())["VersionId"]
    table.send({"n": 2})
    table.run(*COMPACT, says="restore the missing version in the bucket before compacting this hour", exit_code=1)
    table.aws.s3.delete_object(Bucket=table.fleet.lake_bucket, Key=table.part(), VersionId=marker)
    table.run(*COMPACT)
    assert len(table.rows()) == 7


def test_a_damaged_part_is_restored_and_its_hour_is_compacted_again(table):
    table.send(*[{"n": 1}] * 3)
    table.run(*COMPACT)
    restore = table.spoil(table.part())
    table.send({"n": 2})
    table.run(*COMPACT, says="restore the version that was written first", exit_code=1)
    restore()
    table.run(*COMPACT)
    assert len(table.rows()) == 4


def test_a_record_that_is_not_ours_is_removed_and_the_rule_is_compacted_again(table):
    table.send(*[{"n": 1}] * 3)
    table.run(*COMPACT)
    remove = table.spoil(f"{table.fleet.parquet_prefix}/_schema/v1/rule=rule1/00007.json")
    table.send({"n": 2})
    table.run(*COMPACT, says="remove that object's version", exit_code=1)
    remove()
    table.run(*COMPACT)
    assert len(table.rows()) == 4


def test_an_hour_that_was_not_proven_is_purged_once_it_is_compacted(table):
    table.send(*[{"n": 1}] * 3)
    table.run("raw", "purge", *SPAN, "--yes", says="compact the hour and verify it again", exit_code=1)
    table.run(*COMPACT)
    table.run("raw", "purge", *SPAN, "--yes")
    assert "Contents" not in table.aws.s3.list_objects_v2(Bucket=table.fleet.bucket)


def test_a_purge_that_a_begun_rewrite_forbids_is_done_once_the_rewrite_has_ended(table):
    table.send(*[{"n": 1}] * 3)
    table.run(*COMPACT)
    table.lake.next_generation.begin()
    table.run("raw", "purge", *SPAN, "--yes", says="end the rewrite first", exit_code=1)
    table.run("lake", "rewrite")
    table.run("raw", "purge", *SPAN, "--yes")
    assert "Contents" not in table.aws.s3.list_objects_v2(Bucket=table.fleet.bucket)
    assert len(table.rows()) == 3
