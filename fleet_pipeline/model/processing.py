"""The record of processing: what a fleet holds where, whose it is, for how long, and who may read it, by its settings.

Words and settings alone: what really lies there, and who has been given which role, is not asked. It is a beginning for
a company's own record, which also says why.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.names import log_of

HEAD = ("where", "what", "whose", "for how long", "who may read")

VEHICLE = "the vehicle's that sent it"
NAMED = "the vehicle's that it names, else the client's that sent it"

BAR = r"\|"
"""A bar within a cell of Markdown."""

NO_END = "no end is set"


@dataclass(frozen=True, slots=True)
class Processing:
    """One place in which something lies that may be about a person."""

    where: str
    what: str
    whose: str
    long: str
    readers: str


def record(fleet: Fleet) -> list[Processing]:
    """Return every place that the settings make, in the order in which a message passes them."""
    return [*_messages(fleet), *_lake(fleet), *_registration(fleet), *_logs(fleet), *_elsewhere(fleet)]


def private_fields(fleet: Fleet) -> list[str]:
    """Return what is left out of columns, or is coarser there, in words."""
    return [
        f"{text.partition('=')[0]}: {_coarser(text.partition('=')[2])}; the payload has it whole"
        for text in fleet.private_columns
    ]


def as_markdown(fleet: Fleet) -> str:
    """Return the record as Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(astuple(each) for each in record(fleet))]
    lines = ["| " + " | ".join(cell.replace("|", BAR) for cell in row) + " |" for row in rows]
    fields = private_fields(fleet) or ["none: every field of a message may become a column"]
    return "\n".join([*lines, "", "Private fields (`FLEET_PRIVATE_COLUMNS`):", "", *(f"- {each}" for each in fields)])


def _messages(fleet: Fleet) -> Iterator[Processing]:
    named = "; its key has the client id" if fleet.raw_key_format == "timestamp-uuid-client" else ""
    named += "; batches have each message's client id" if fleet.batched_rules else ""
    for prefix in fleet.raw_prefixes:
        yield Processing(
            f"`s3://{fleet.bucket}/{prefix}/`",
            f"every message as it came, each version of it{named}",
            _whose(fleet),
            _days(fleet, "raw", "once its hour is proved to be rows"),
            _readers(fleet, "raw", "compaction", "erasure", "retention", "virtual-vehicle"),
        )
    if fleet.batched_rules:
        yield Processing(
            f"streams `{fleet.prefix}-…` of Amazon Data Firehose",
            "messages on their way into batches, with client ids",
            _whose(fleet),
            f"{fleet.delivery_buffer_seconds} seconds; up to a day where they cannot be written",
            "AWS; the role of the streams",
        )
    reports = _days(fleet, "report", "and a day, replayed or not")
    yield Processing(
        f"`s3://{fleet.bucket}/{fleet.errors_prefix}/`",
        "messages that a rule could not write, in AWS IoT's reports",
        _whose(fleet),
        f"{NO_END}: the bucket is another team's" if fleet.bucket in fleet.given else reports,
        _readers(fleet, "raw", "replay", "erasure"),
    )


def _lake(fleet: Fleet) -> Iterator[Processing]:
    where = f"s3://{fleet.lake_bucket}/"
    yield Processing(
        f"`{where}{fleet.parquet_prefix}/v*/`",
        "a row for each message, its bytes in `_payload`; all generations",
        _whose(fleet),
        _days(fleet, "lake", "once its raw objects are gone"),
        _readers(fleet, "lake", "compaction", "erasure", "retention", "whoever queries the lake"),
    )
    yield Processing(
        f"`{where}vehicles_hourly/`, `{where}vehicles_daily/`",
        "a row for each vehicle and hour or day: distance, speed, battery, first and last message; former revisions",
        "the vehicle's that it names",
        _days(fleet, "derived", "by the day"),
        _readers(fleet, "lake", "compaction", "erasure", "retention", "whoever queries the lake"),
    )
    if fleet.iceberg_catalog != "off":
        yield Processing(
            f"`{where}{fleet.iceberg_prefix}`",
            f"lists of the lake's files with their instants (catalog `{fleet.iceberg_catalog}`); no other value",
            "nobody's by itself",
            f"{fleet.iceberg_snapshot_days} days a snapshot; none leads to what is gone",
            _readers(fleet, "lake", "compaction", "erasure", "retention", "whoever queries the lake"),
        )
    yield Processing(
        f"`{where}{fleet.parquet_prefix}/_erasures/`",
        "keyed hashes of erased vehicles' names, the hours that were searched, records of what went, certificates",
        "erased vehicles', by a hash",
        "for good: it is the proof",
        _readers(fleet, "lake", "compaction", "erasure", "retention", "whoever queries the lake"),
    )


def _registration(fleet: Fleet) -> Iterator[Processing]:
    yield Processing(
        "AWS IoT's registry",
        "things, attributes, certificates without their keys",
        "the vehicle's that it names",
        "until the vehicle is removed",
        "provisioner, erasure, the hook",
    )
    place = {
        "s3": f"`s3://{fleet.bucket}/{fleet.allow_list_key}`",
        "dynamodb": f"DynamoDB table `{fleet.allow_list_table}`",
    }
    if fleet.allow_list in place:
        yield Processing(
            place[fleet.allow_list],
            "serials that may register",
            "the vehicle's that it names",
            "until a line is taken off",
            "provisioner, erasure, the hook",
        )


def _logs(fleet: Fleet) -> Iterator[Processing]:
    days = fleet.log_retention_days
    functions = [fleet.hook_name, *([fleet.just_in_time_name] if fleet.own_ca == "jitr" else [])]
    yield Processing(
        f"CloudWatch Logs {', '.join(f'`{log_of(name)}`' for name in functions)}",
        "serials and client ids that asked to register, and what was decided",
        "the vehicle's that it names",
        f"{days} days (`FLEET_LOG_RETENTION_DAYS`)" if days else f"{NO_END} (`FLEET_LOG_RETENTION_DAYS`)",
        "provisioner, whoever reads CloudWatch Logs",
    )
    if fleet.access_log_bucket:
        yield Processing(
            f"`s3://{fleet.access_log_bucket}/{fleet.access_log_prefix}`",
            "who asked for which object, by its key",
            "the reader's; the vehicle's where a key has its client id",
            "as that bucket's owner says",
            "as that bucket's owner says",
        )
    if fleet.shows_previews:
        yield Processing(
            "Dagster's event log",
            "of each hour and day five rows and up to fifty positions (`FLEET_PREVIEWS`)",
            _whose(fleet),
            "as long as Dagster keeps its events",
            "whoever opens the UI",
        )
    yield Processing(
        "Dagster's compute logs",
        "what runs printed: keys, counts, errors; no row",
        "the vehicle's where a key has its client id",
        _days(fleet, "compute_log"),
        "whoever opens the UI",
    )


def _elsewhere(fleet: Fleet) -> Iterator[Processing]:
    for rule in fleet.rules:
        kinds = sorted({kind for action in rule.actions for kind in action})
        if kinds:
            yield Processing(
                f"where rule `{rule.key}` also sends: {', '.join(f'`{kind}`' for kind in kinds)}",
                "what the rule selects of each message",
                _whose(fleet),
                "as its receiver says: neither an age nor an erasure reaches it from here",
                "as its receiver says",
            )
    yield from _inventories(fleet)
    yield Processing(
        f"`{fleet.home}/vehicles/` on the machine that simulates vehicles",
        "their certificates and keys",
        "the simulated vehicle's",
        "until it is removed",
        "its owner",
    )


def _inventories(fleet: Fleet) -> Iterator[Processing]:
    places = sorted({rule.inventory for rule in fleet.given_rules if rule.inventory})
    if places:
        yield Processing(
            "`fleet-inventories-{uid}/` beside the temporary files of each machine that reads hours of "
            + ", ".join(f"`{place}`" for place in places),
            "keys of those buckets with versions, sizes, ETags and instants; no message",
            "the vehicle's where a key has its name",
            "until an inventory that is newer is read there, or another one after 14 days without use",
            "the user who compacts there (mode 0700)",
        )


def _whose(fleet: Fleet) -> str:
    return VEHICLE if fleet.vehicle_named_by == "client_id" else NAMED


def _days(fleet: Fleet, what: str, when: str = "") -> str:
    name = f"{what}_retention_days"
    days, setting = getattr(fleet, name), f"`FLEET_{name.upper()}`"
    return f"{days} days{f', {when}' if when else ''} ({setting})" if days else f"{NO_END} ({setting})"


def _readers(fleet: Fleet, bucket: str, *roles: str) -> str:
    owner = ["its owner, another team"] if bucket in fleet.given_buckets else []
    return ", ".join([*roles, *owner])


def _coarser(how: str) -> str:
    if not how:
        return "in no column"
    return f"to {how} decimals" if how.isdigit() else f"to the {how}"
