"""The record of processing says what the settings make, who may read it as the documents of `fleet iam` allow, and the page shows it."""

import fnmatch
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from iam_documents import documents

from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.lake.inventory import KEPT
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.processing import as_markdown, private_fields, record
from fleet_pipeline.model.rule_table import RuleTable

PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
ROLES = {"compaction", "erasure", "replay", "retention", "virtual-vehicle"}
KEYS = {
    "test-rule/": "test-rule/rule1/1795442400123-x",
    "errors/": "errors/rule1/1795442400123-x",
    "lake/v*/": "lake/v1/rule=rule1/date=2026-11-23/hour=10/part-00000.parquet",
    "vehicles_hourly/": "vehicles_hourly/date=2026-11-23/hour=10/revision-00000.parquet",
    "lake/_iceberg/": "lake/_iceberg/x/metadata/x.json",
    "lake/_erasures/": "lake/_erasures/runs/x/certificate-00000.json",
}
"""An object of each place in S3."""


def said(fleet, where):
    [row] = [each for each in record(fleet) if where in each.where]
    return row


def test_the_page_shows_what_the_defaults_hold():
    assert as_markdown(Fleet()) in PAGE


@pytest.mark.parametrize("place", KEYS)
def test_who_may_read_is_who_has_a_document_that_allows_it(place):
    fleet = Fleet(role_boundary="own")
    bucket = fleet.bucket if place in {"test-rule/", "errors/"} else fleet.lake_bucket
    wanted = fleet.arn("s3", f"{bucket}/{KEYS[place]}")
    allowed = {
        name.split()[0]
        for name, document in documents(fleet).items()
        for statement in document["Statement"]
        if statement["Effect"] == "Allow" and {"s3:GetObject", "s3:GetObjectVersion"} & {*statement["Action"]}
        for arn in ([statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"])
        if fnmatch.fnmatchcase(wanted, arn)
    } - {"boundary"}
    row = said(fleet, f"s3://{bucket}/{place}")
    assert {*row.readers.split(", ")} & ROLES == allowed
    assert "provisioner" not in allowed


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("raw_retention_days", "test-rule/"),
        ("report_retention_days", "errors/"),
        ("lake_retention_days", "lake/v*/"),
        ("derived_retention_days", "vehicles_hourly/"),
        ("compute_log_retention_days", "compute logs"),
        ("log_retention_days", "CloudWatch Logs"),
    ],
)
def test_each_age_is_that_of_its_setting_and_without_one_no_end_is_said(setting, where):
    ages = {"raw_retention_days": 30, "lake_retention_days": 30, "derived_retention_days": 30, setting: 30}
    assert said(Fleet(**ages), where).long.startswith("30 days")
    assert said(Fleet(), where).long.startswith("no end is set")
    assert f"FLEET_{setting.upper()}" in said(Fleet(), where).long


def test_what_the_settings_do_not_make_is_not_there_and_what_they_make_is():
    off = Fleet(profile="aws", account="210987654321")
    for where in ("event log", "_iceberg", "allow-list"):
        assert not [each for each in record(off) if where in each.where], where
    on = replace(off, previews="on", iceberg="glue", allow_list="dynamodb", access_log_bucket="company-logs")
    for where in ("event log", "_iceberg", "allow-list", "s3://company-logs/"):
        assert said(on, where)


def test_another_teams_bucket_has_another_reader_and_no_end_by_a_rule_of_ours():
    fleet = Fleet(given_buckets=("raw",), report_retention_days=9)
    assert "its owner, another team" in said(fleet, "errors/").readers
    assert said(fleet, "errors/").long == "no end is set: the bucket is another team's"
    assert "its owner" not in said(fleet, "lake/v*/").readers


def test_where_a_rule_also_sends_is_named():
    table = RuleTable(key="sold", actions=({"republish": {"topic": "sold/out"}},))
    row = said(Fleet(rule_tables=(table,)), "`sold`")
    assert "`republish`" in row.where
    assert "neither an age nor an erasure" in row.long


def test_an_index_of_an_inventory_is_named_with_its_folder_its_mode_and_its_end():
    place = "s3://lists/daily/others/all/"
    table = RuleTable(key="old", bucket="others", layout="raw/{device}/{*}.json", inventory=place)
    row = said(Fleet(rule_tables=(table,), rule_keys=("rule1",)), "fleet-inventories-")
    assert place in row.where
    assert "mode 0700" in row.readers
    assert f"{KEPT.days} days" in row.long
    listed = Fleet(rule_tables=(replace(table, inventory=""),), rule_keys=("rule1",))
    assert not [each for each in record(listed) if "fleet-inventories-" in each.where]


def test_private_fields_are_said_with_what_becomes_of_them():
    fleet = Fleet(private_columns=("driver.name", "position.latitude=2", "recorded_at=minute"))
    assert private_fields(fleet) == [
        "driver.name: in no column; the payload has it whole",
        "position.latitude: to 2 decimals; the payload has it whole",
        "recorded_at: to the minute; the payload has it whole",
    ]
    assert all(f"- {each}" in as_markdown(fleet) for each in private_fields(fleet))


def test_the_command_says_the_same_for_people_and_for_documents(command, fleet):
    code, text = command(fleet, "privacy")
    assert code == 0
    assert "`" not in text
    assert CliRunner().invoke(fleet_command, ["privacy", "--markdown"], env={"FLEET_BUCKET": "a-bucket"}).exit_code == 0
    for each in record(replace(fleet, start="2026-01-01")):
        assert re.sub("`", "", each.long) in text
