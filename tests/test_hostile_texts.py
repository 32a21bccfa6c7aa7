"""What a vehicle says is a text and nothing else, wherever people read it: in events of Dagster, in alerts, in what the commands print."""

import json
import re
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dagster as dg
import pytest
from rich.table import Table

from fleet_pipeline.alerts import deliver
from fleet_pipeline.cli.shown import PlainConsole, styled
from fleet_pipeline.definitions import build
from fleet_pipeline.fleet import Hour, RawName
from fleet_pipeline.provision.blueprint import blueprint
from fleet_pipeline.provision.reconcile import reconcile

IMAGE = "![x](/graphql?query=mutation)"
HOSTILE = f"{IMAGE}<img src=x onerror=alert(1)>[bold red]b[/] | ` ``` \x1b[2J\x1b]0;t\x07\u202e\u2066\r\nERROR forged line <!channel>"
HOUR = Hour.parse(f"{datetime.now(UTC) - timedelta(hours=3):%Y-%m-%d-%H:00}")


def uncoded(markdown):
    """Return what of a Markdown text stands in no code span and in no code block."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown, flags=re.DOTALL)


@pytest.fixture
def hostile(fleet, aws):
    """A lake's raw bucket in which a vehicle said hostile things in every place that it chooses, beside a well-meaning one."""
    parts = blueprint(fleet)
    for name in ("bucket", "lake_bucket"):
        reconcile(parts[name].resource, aws)
    rule = fleet.rules[0]
    said = [
        {"serial": HOSTILE, "speed_kmh": 1, HOSTILE: HOSTILE, "error": {"report": HOSTILE}},
        {"serial": "297468000001", "speed_kmh": 2},
        HOSTILE,
    ]
    for number, each in enumerate(said):
        body = each.encode() if isinstance(each, str) else json.dumps(each).encode()
        aws.s3.put_object(Bucket=fleet.bucket, Key=rule.raw_key(RawName(HOUR.start_ms + number, f"00000000-0000-4000-8000-00000000000{number}")), Body=body)
    aws.s3.put_object(Bucket=fleet.bucket, Key=f"{rule.raw_prefix}{HOUR.start_ms + 9}/{IMAGE}<b>", Body=b"{}")
    return fleet


def texts(value):
    """Yield every text in an event, with whether the UI makes Markdown of it."""
    if isinstance(value, dg.MarkdownMetadataValue):
        yield True, value.md_str or ""
    elif isinstance(value, dg.TableMetadataValue):
        for record in value.records:
            yield from ((False, cell) for cell in record.data.values() if isinstance(cell, str))
    elif isinstance(value, dg.TextMetadataValue):
        yield False, value.text or ""


def test_no_event_of_compaction_or_of_a_look_carries_it_as_markdown_or_control(hostile):
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = build(hostile)
        compacted = definitions.resolve_job_def("compact").execute_in_process(instance=instance, partition_key=HOUR.partition_key, raise_on_error=False)
        looked = definitions.resolve_job_def("look").execute_in_process(instance=instance, raise_on_error=False)
        events = [*compacted.all_events, *looked.all_events]
    shown = []
    for event in events:
        for about in (getattr(event.event_specific_data, "materialization", None), event.event_specific_data):
            shown += [each for value in (getattr(about, "metadata", None) or {}).values() for each in texts(value)]
            shown += [(True, description) for description in [getattr(about, "description", None)] if description]
    assert any("graphql" in text for _, text in shown), "the hostile text is nowhere: the test sees nothing"
    for markdown, text in shown:
        assert all(line.isprintable() for line in text.split("\n")), text
        if markdown and "data:image" not in text:
            assert "graphql" not in uncoded(text), text


def test_a_command_prints_it_as_a_text(capsys):
    console = PlainConsole()
    table = Table("said")
    table.add_row(HOSTILE)
    console.print(HOSTILE)
    console.print(table)
    console.print(styled((HOSTILE, "red"), HOSTILE))
    printed = capsys.readouterr().out
    assert printed.count("[bold red]") == 4
    assert all(line.isprintable() for line in printed.split("\n"))


def test_an_alert_calls_nobody_that_a_vehicle_names():
    heard = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        deliver(f"http://127.0.0.1:{server.server_port}/", HOSTILE)
        server.shutdown()
    assert "<" not in heard[0]
    assert all(line.isprintable() for line in heard[0].split("\n"))
