"""What a vehicle says is a text and nothing else, wherever people read it: in events of Dagster, in logs, in alerts, in what the commands print.

HOSTILE stands in every place that a vehicle, or whoever writes beside it, chooses. Each command, job and group of assets is either tried with it
or named with the reason why no vehicle's text can reach it: a new one fails a test here until somebody has said which.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import dagster as dg
import pytest
from rich.table import Table
from serving import serving

from fleet_pipeline.assets.alerts import deliver
from fleet_pipeline.assets.shared.failures import Quoted, reported
from fleet_pipeline.assets.shared.shown import or_none
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cli.shown import PlainConsole, styled
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.local.launcher import PlainLines
from fleet_pipeline.model import errors
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

SOURCE = Path(errors.__file__).parents[1]
IMAGE = "![x](/graphql?query=mutation)"
HOSTILE = f"{IMAGE}<img src=x onerror=alert(1)>[bold red]b[/] | ` ``` \x1b[2J\x1b]0;t\x07\u202e\u2066\r\nERROR forged line <!channel>"
HOUR = Hour.parse(f"{datetime.now(UTC) - timedelta(hours=3):%Y-%m-%d-%H:00}")
TO = f"{HOUR.end:%Y-%m-%d-%H:00}"

AWS_NAMES = "it shows names and documents of AWS's and of the settings, which hold no such character"
COUNTS = "it shows numbers, hours and names of the settings"
OURS = "it shows this machine's own paths and addresses"

SILENT_COMMANDS = {
    "hook": "of what it is told by the caller's own file; the hook spells its reasons in ASCII, and they are shown plain",
    **dict.fromkeys(
        [
            "adopt",
            "apply",
            "plan",
            "check",
            "destroy",
            "iam",
            "export",
            "versions",
            "rollback",
            "settings",
            "connect",
            "privacy",
        ],
        AWS_NAMES,
    ),
    **dict.fromkeys(["claim", "ca", "bulk", "vehicle check", "vehicle retire", "vehicle restore"], AWS_NAMES),
    **dict.fromkeys(
        ["vehicle register", "vehicle drive", "vehicle allow", "demo", "shell"],
        "it shows what was typed, or what `query` shows",
    ),
    **dict.fromkeys(["lake rewrite", "cost"], COUNTS),
    **dict.fromkeys(
        ["vehicle export", "vehicle erase"], "it shows numbers and what was typed; vehicles' texts go into files"
    ),
    **dict.fromkeys(["ui", "local", "init"], OURS),
    "schema pin": COUNTS,
    "raw where": "it shows what was typed, and names of objects as `compact` does",
    "schema diff": "it prints each line as `schema show` does",
}
TRIED_COMMANDS = {
    "compact": ["--from", HOUR.partition_key, "--to", TO],
    "errors": [],
    "replay": [],
    "vehicle why": [],
    "vehicle allowed": [],
    "raw purge": ["--from", HOUR.partition_key, "--to", TO, "--dry-run"],
    "schema show": ["--rule", "rule1"],
    "lake ddl": [],
    "iceberg sync": [],
    "iceberg check": [],
    "iceberg maintain": [],
    "iceberg show": ["--snapshots"],
    "retention": ["--dry-run"],
    "adopt-bucket": ["s3://{bucket}/"],
    "query": ["SELECT serial, _payload, _extra FROM rule1"],
}
WITH_THE_TEXT = {"errors", "vehicle why", "query", "adopt-bucket"}

SILENT_JOBS = {"maintain_iceberg": COUNTS, "export_vehicle": COUNTS, "erase_vehicle": COUNTS} | dict.fromkeys(
    [
        "provision",
        "plan",
        "adopt",
        "rotate_claim",
        "retire_claim",
        "revoke_claim",
        "rollback",
        "replay",
        "destroy",
        "export_cloudformation",
    ],
    AWS_NAMES,
)
TRIED_JOBS = {"compact", "look", "retention"}
SILENT_GROUPS = {"provisioning": AWS_NAMES, "raw": "nothing is materialized"}
TRIED_GROUPS = {"lake", "errors", "vehicles", "catalog", "iceberg"}


def uncoded(markdown):
    """Return what of a Markdown text stands in no code span and in no code block."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown, flags=re.DOTALL)


@pytest.fixture
def hostile(fleet, aws):
    """A fleet in which a vehicle said hostile things in every place that it chooses, beside a well-meaning one."""
    parts = blueprint(fleet)
    for name in ("bucket", "lake_bucket", "database"):
        if name in parts:
            reconcile(parts[name].resource, aws)
    rule = fleet.rules[0]
    said = [
        {"serial": HOSTILE, "speed_kmh": 1, HOSTILE: HOSTILE, "error": {"report": HOSTILE}},
        {"serial": "297468000001", "speed_kmh": 2},
        HOSTILE,
    ]
    for number, each in enumerate(said):
        body = each.encode() if isinstance(each, str) else json.dumps(each).encode()
        aws.s3.put_object(
            Bucket=fleet.bucket,
            Key=rule.raw_key(RawName(HOUR.start_ms + number, f"00000000-0000-4000-8000-00000000000{number}")),
            Body=body,
        )
    aws.s3.put_object(Bucket=fleet.bucket, Key=f"{rule.raw_prefix}{HOUR.start_ms + 9}/{IMAGE}<b>", Body=b"{}")
    report_of_a_failure(fleet, aws, rule)
    aws.s3.put_object(Bucket=fleet.bucket, Key=f"{fleet.report_prefix(rule)}{IMAGE}<b>", Body=b"{}")
    aws.s3.put_object(
        Bucket=fleet.bucket, Key=fleet.allow_list_key, Body=f"297468000001\n{IMAGE}\x1b[2J\u202e\n".encode()
    )
    lines_of_the_hook(fleet, aws)
    return fleet


def report_of_a_failure(fleet, aws, rule):
    failure = {"failedAction": "S3Action", "failedResource": HOSTILE, "errorMessage": HOSTILE}
    document = {
        "ruleName": rule.aws_name,
        "topic": rule.ingest[0],
        "clientId": HOSTILE,
        "base64OriginalPayload": "e30=",
        "failures": [failure],
    }
    key = f"{fleet.report_prefix(rule)}{HOUR.start_ms}-00000000-0000-4000-8000-000000000000"
    aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps(document).encode())


def lines_of_the_hook(fleet, aws):
    group, line = (
        f"/aws/lambda/{fleet.hook_name}",
        {"allowed": False, "reason": HOSTILE, "serial": HOSTILE, "clientId": HOSTILE},
    )
    aws.logs.create_log_group(logGroupName=group)
    aws.logs.create_log_stream(logGroupName=group, logStreamName="one")
    event = {"timestamp": int(datetime.now(UTC).timestamp() * 1000), "message": json.dumps(line)}
    aws.logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=[event])


def texts(value):
    """Yield every text in an event, with whether the UI makes Markdown of it."""
    if isinstance(value, dg.MarkdownMetadataValue):
        yield True, value.md_str or ""
    elif isinstance(value, dg.TableMetadataValue):
        for record in value.records:
            yield from ((False, cell) for cell in [*record.data, *record.data.values()] if isinstance(cell, str))
    elif isinstance(value, dg.TableSchemaMetadataValue):
        for column in value.schema.columns:
            yield False, column.name
            yield True, column.description or ""
    elif isinstance(value, dg.TextMetadataValue):
        yield False, value.text or ""


def shown_by(event):
    """Yield every text of an event."""
    data = event.event_specific_data
    for about in (getattr(data, "materialization", None), getattr(data, "asset_observation", None), data):
        for value in (getattr(about, "metadata", None) or {}).values():
            yield from texts(value)
        if description := getattr(about, "description", None):
            yield True, description
    if error := getattr(data, "error", None):
        yield False, error.to_string()
    yield False, event.message or ""


def printed_plainly(text):
    """Say whether a text holds nothing that a terminal obeys but line ends, Dagster's colours and its tabs."""
    return all(line.isprintable() for line in re.sub(r"\x1b\[[0-9;]*m|\t", "", text).split("\n"))


def test_no_event_and_no_log_of_a_run_carries_it_as_markdown_or_control(hostile, capfd):
    definitions, day = build_definitions(hostile), f"{HOUR.start:%Y-%m-%d}"
    with dg.DagsterInstance.ephemeral() as instance:
        events = []
        for job in sorted(TRIED_JOBS):
            at = {"partition_key": HOUR.partition_key} if job == "compact" else {}
            events += (
                definitions.resolve_job_def(job)
                .execute_in_process(instance=instance, raise_on_error=False, **at)
                .all_events
            )
        for asset in definitions.resolve_asset_graph().get_all_asset_keys():
            group = asset.path[0]
            if group in TRIED_GROUPS - {"lake"}:
                at = {"vehicles/hourly": HOUR.partition_key, "vehicles/daily": day}.get(asset.to_user_string())
                job = definitions.resolve_implicit_global_asset_job_def()
                run = job.execute_in_process(
                    instance=instance, asset_selection=[asset], raise_on_error=False, partition_key=at
                )
                events += run.all_events
    found = [each for event in events for each in shown_by(event)]
    for group in TRIED_GROUPS:
        ran = [event for event in events if event.is_step_materialization and event.asset_key.path[0] == group]
        assert ran, group
    assert any("graphql" in text for _, text in found), "the hostile text is nowhere: the test sees nothing"
    for markdown, text in found:
        assert printed_plainly(text), text
        if markdown and "data:image" not in text:
            assert "graphql" not in uncoded(text), text
    logged = capfd.readouterr()
    assert "STEP_" in logged.err
    for line in (logged.out + logged.err).split("\n"):
        assert printed_plainly(line), line
        assert not line.startswith("ERROR forged"), line


def commands(group, path=()):
    for name, each in group.commands.items():
        yield from commands(each, (*path, name)) if isinstance(each, click.Group) else [" ".join((*path, name))]


def test_every_command_job_and_group_is_tried_or_has_a_reason_not_to_be():
    silent = [each for each in commands(fleet_command) if each in SILENT_COMMANDS or each.split()[0] in SILENT_COMMANDS]
    assert set(commands(fleet_command)) == {*silent, *TRIED_COMMANDS}
    assert not set(silent) & set(TRIED_COMMANDS)
    definitions = build_definitions(Fleet())
    own = {job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")}
    assert own == {*SILENT_JOBS, *TRIED_JOBS}
    assert {key.path[0] for key in definitions.resolve_asset_graph().get_all_asset_keys()} == {
        *SILENT_GROUPS,
        *TRIED_GROUPS,
    }


def test_no_command_prints_it_but_as_a_text(hostile, command, monkeypatch):
    monkeypatch.setenv("FLEET_ALLOW_LIST", "s3")
    for name, options in TRIED_COMMANDS.items():
        _, printed = command(hostile, *name.split(), *(each.replace("{bucket}", hostile.bucket) for each in options))
        for line in printed.split("\n"):
            assert line.isprintable(), (name, line)
            assert not line.startswith("ERROR forged"), (name, line)
        assert ("graphql" in printed) == (name in WITH_THE_TEXT), (name, printed)


def test_nothing_is_shown_past_the_inert_ways():
    """A console of one's own, a `print` or Markdown by hand would show what the tests above do not try."""
    ways = [
        r"(?<!Plain)Console\(",
        r"(?<![\w.])print\(",
        r"sys\.std(out|err)\.write",
        r"exc_info=|\.exception\(",
        r"MetadataValue\.md\(\s*(?!\s|in_markdown|fenced?\(|bars\(|dots\(|\"\\n\"\.join\(f\"- \{in_markdown\()",
    ]
    for way in ways:
        assert [str(path) for path in SOURCE.rglob("*.py") if re.search(way, path.read_text())] == [], way


def classes(error):
    return [each for child in error.__subclasses__() for each in (child, *classes(child))]


@pytest.mark.parametrize("error", [each for each in classes(errors.FleetError) if "__init__" in vars(each)])
def test_an_error_says_it_as_a_text_in_one_line(error):
    count = error.__init__.__code__.co_argcount - 1
    try:
        said = str(error(*[HOSTILE] * count))
    except (TypeError, ValueError):  # it wants a number
        said = str(error(*[HOSTILE, 403, HOSTILE, HOSTILE][:count]))
    assert all(line.isprintable() for line in said.split("\n"))
    assert error.in_lines or "\n" not in said


def refuse():
    raise ValueError(HOSTILE)


def refused():
    try:
        refuse()
    except ValueError as cause:
        raise errors.NoRoom("hour", HOSTILE, "free some") from cause


def test_a_step_ends_with_an_inert_error_whatever_it_met():
    with pytest.raises(dg.Failure) as ended, reported():
        refused()
    assert isinstance(ended.value.__cause__, Quoted)
    with pytest.raises(Quoted, match="ValueError") as unforeseen, reported():
        refuse()
    assert unforeseen.value.__suppress_context__
    for each in (ended.value.description, str(ended.value.__cause__), str(unforeseen.value)):
        assert all(line.isprintable() for line in each.split("\n"))
    with pytest.raises(ValueError, match="harmless"), reported():
        raise ValueError("harmless")


def test_the_log_has_it_as_a_text(caplog):
    assert or_none("a picture", refuse) is None
    assert "ValueError" in caplog.text
    assert all(line.isprintable() for line in caplog.text.split("\n"))


def test_the_log_of_aws_on_this_machine_has_it_as_a_text():
    try:
        refuse()
    except ValueError:
        record = logging.LogRecord("iot", logging.INFO, __file__, 1, "client %s", (HOSTILE,), sys.exc_info())
    first, *more = PlainLines("%(levelname)s %(message)s").format(record).split("\n")
    assert first.startswith("INFO client ![x]")
    assert first.endswith("<!channel>")
    assert all(line.isprintable() for line in [first, *more])


def test_a_console_prints_it_as_a_text(capsys):
    console = PlainConsole()
    table = Table("said")
    table.add_row(HOSTILE)
    console.print(HOSTILE)
    console.print(table)
    console.print(styled((HOSTILE, "red"), HOSTILE))
    printed = capsys.readouterr().out
    assert printed.count("[bold red]") == 4
    assert all(line.isprintable() for line in printed.split("\n"))


def test_an_alert_calls_nobody_that_a_vehicle_names_and_finds_this_machine_without_a_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    heard = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Webhook)) as address:
        deliver(f"{address}/", HOSTILE)
    assert "<" not in heard[0]
    assert all(line.isprintable() for line in heard[0].split("\n"))
