"""What payloads cost that were made to cost much: CPU seconds of a megabyte, for each kind, in compaction and in a
rewrite.

    python benchmarks/hostile.py [--only chains ...] [--mb 2] [--write]

Objects are in this process's memory, so that no transfer is measured. `--write` renews the list in results.json and the
table in docs/benchmarks.md.
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.messages import HOUR, RULE, SEED
from benchmarks.run import probe
from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.contract import COLUMNS
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import learnt, rewrite_hour
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.rule import RawName

LARGEST = 128 * 1024
"""Bytes of the largest message that AWS IoT takes."""

LENIENT = Form(arrays="elements", several_objects="on", lenient_numbers="on", numbers="double")
"""Every choice that has more work to do than its default."""


def filled(piece, *, begin='{"a":[', end="]}", joint=","):
    """As many pieces as fit into one message, each of them `piece` or `piece(its number)`."""
    made, size, number = [], len(begin) + len(end), 0
    while size < LARGEST:
        made.append(piece(number) if callable(piece) else piece)
        size += len(made[-1].encode()) + len(joint)
        number += 1
    return (begin + joint.join(made[:-1]) + end).encode()


def always(payload):
    """The same message again and again."""
    return lambda _: payload


def new_names(count, of=str):
    """Messages of so many names that no message before had."""
    return lambda number: json.dumps({f"name{number}_{each}": of(each) for each in range(count)}).encode()


def bush(levels, width):
    return "{" + ",".join(f'"b{each}":{bush(levels - 1, width) if levels > 1 else each}' for each in range(width)) + "}"


KINDS = {
    "chains": always(filled('{"":' * 30 + "0" + "}" * 30)),
    "chains without end": always(b'{"a":' * (LARGEST // 5)),
    "brackets without end": always(b"[" * LARGEST),
    "brackets in texts without end": always(b'"[' * (LARGEST // 2)),
    "bushes": always(bush(3, 9).encode()),
    "arrays of {}": always(filled("{}")),
    "arrays of []": always(filled("[]")),
    "arrays in arrays": always(filled("[" * 29 + "]" * 29)),
    "arrays of {} as elements": always(b"[" + b",".join([b"{}"] * 10_000) + b"]"),
    "several {}": always(b"{}" * 10_000),
    "objects without a name": always(filled('{"":0}')),
    "small objects of two names": always(filled('{"a":1,"b":2}')),
    "objects of other names in an array": always(filled(lambda number: f'{{"n{number % 900}":1}}')),
    "few new names": new_names(3),
    "1,000 new names": new_names(1000),
    "1,000 new names in 30 levels": lambda number: (
        '{"deep":' * 29 + new_names(1000)(number).decode() + "}" * 29
    ).encode(),
    "10,000 names": new_names(10_000),
    "long names": lambda number: json.dumps({f"{number}{'n' * 60_000}{each}": 1 for each in range(2)}).encode(),
    "names of one letter, escaped": always(
        filled(lambda number: f'"\\u{0x4E00 + number % 900:04x}":1', begin="{", end="}")
    ),
    "names said twice": always(filled('"a":1', begin="{", end="}")),
    "names that differ by case": lambda number: json.dumps(
        {f"speed{number % 50}": 1, f"SPEED{number % 50}": 1, f"Speed{number % 50}": 1}
    ).encode(),
    "another kind each time": lambda number: json.dumps(
        {f"f{each}": [1, "a", True, 1.5, [1], ["a"], [{}]][(number + each) % 7] for each in range(400)}
    ).encode(),
    "digits": always(filled("1")),
    "integers beyond a double": always(filled("9007199254740993")),
    "integers of 500 digits": always(filled("1" * 500)),
    "integers of 100,000 digits": always(filled("1" * 100_000)),
    "decimals of 500 digits": always(filled("0." + "1" * 500)),
    "decimals of 20 digits": always(filled("1.0000000000000000001")),
    "exponents": always(filled("1E5")),
    "smallest exponents": always(filled("1e-400")),
    "exponents of 400 digits": always(filled("0e" + "9" * 400)),
    "minus zeros": always(filled("-0")),
    "minus zeros in texts": always(filled('"-0"').replace(b"]}", b",-0]}")),
    "nan": always(filled("nan")),
    "nan in texts": always(filled('"nan"').replace(b"]}", b",nan]}")),
    "signs without numbers": always(filled("-")),
    "texts of nulls": always(filled("\\u0000", begin='{"a":"', end='"}', joint="")),
    "texts of quotes": always(filled('\\"', begin='{"a":"', end='"}', joint="")),
    "texts of half surrogates": always(filled("\\ud800", begin='{"a":"', end='"}', joint="")),
    "backslashes without end": always(b'{"a":"' + b"\\" * (LARGEST - 10)),
    "texts of digits": always(filled("1" * 600, begin='{"a":"', end='"}', joint=" ")),
    "texts of brackets and colons": always(
        filled('[{":,', begin='{"a":"', end='"}', joint="").replace(b'[{":', b"[{:")
    ),
    "short texts": always(filled('"a"')),
    "mixed arrays": always(filled('1,"a",null,true,1.5')),
    "nulls": always(filled("null")),
    "blanks": always(filled(" " * 20, begin='{"a":', end="1}", joint=" ")),
    "blanks between": always(filled(' "a"', joint=" ,")),
    "blanks in texts": always(filled('"a b" ')),
    "one field of a thousand": lambda number: json.dumps({f"f{number * 7919 % 1000}": number}).encode(),
    "one field of 1,000 columns": lambda number: json.dumps({f"f{number * 7919 % 1000}": number}).encode(),
    "one text of 1,000 columns of numbers": lambda number: json.dumps({f"f{number * 7919 % 1000}": "a"}).encode(),
    "{} beside 1,000 columns": always(b"{}"),
    "arrays of {} as elements beside 1,000 columns": always(b"[" + b",".join([b"{}"] * 10_000) + b"]"),
    "elements of one letter beside 1,000 columns": always(b'{"a":1}' * 10_000),
    "elements of one field of 1,000 columns": always(
        b"".join(b'{"f%d":1}' % (number * 7919 % 1000) for number in range(10_000))
    ),
    "{}": always(b"{}"),
    "elements of one letter": always(b'{"a":1}' * 10_000),
    "elements of one letter, each a text": always(b'{"a":""}' * 10_000),
    "elements without a name": always(b'{"":1}' * 10_000),
    "elements of two kinds": always(b'{"a":1}{"a":[]}' * 5_000),
    "elements of many names": always(b"".join(b'{"%d":1}' % number for number in range(10_000))),
    "elements of 30 levels": always((b'{"a":' * 30 + b"1" + b"}" * 30) * 700),
    "two shapes in turn": lambda number: [b'{"a":1,"b":{"c":"x"}}', b'{"a":{"b":1},"b":"x"}'][number % 2],
    "a byte order mark": always(b"\xef\xbb\xbf{}"),
    "half a text": always(b'{"a":"' + b"\\u00" * 20_000),
    "blanks only": always(b" " * LARGEST),
    "numbers of 512 digits": always(filled("-0." + "3" * 511)),
    "names of escapes": lambda number: (
        "{" + ",".join(f'"\\u00{each % 26 + 65:x}\\u00{each // 26 + 65:x}":{number}' for each in range(600)) + "}"
    ).encode(),
    "a deep name for each field": lambda number: json.dumps(
        {f"n{each}": {"a": {"b": {"c": number}}} for each in range(300)}
    ).encode(),
    "fields of one letter": lambda number: json.dumps(
        {chr(97 + each): number for each in range(26)}, separators=(",", ":")
    ).encode(),
}
"""Payloads of a kind, by number."""


class Kept:
    """A bucket in this process."""

    def __init__(self):
        self.requests, self.objects, self.listed = Counter(), {}, {}

    def put_new(self, key, body):
        if key in self.objects:
            return False
        self.objects[key] = body.read_bytes() if isinstance(body, Path) else body
        self.listed[key] = ObjectVersion(
            key, "1", len(self.objects[key]), hashlib.md5(key.encode()).hexdigest(), "", latest=True
        )
        return True

    def read(self, key, start, stop):
        return self.objects[key][start:stop]

    def versions(self, prefix, after="", until=""):
        keys = sorted(
            key for key in self.objects if key.startswith(prefix) and key > after and (not until or key < until)
        )
        for start in range(0, max(1, len(keys)), 1000):
            yield [self.listed[key] for key in keys[start : start + 1000]]

    def folders(self, prefix):
        below = {key[len(prefix) :] for key in self.objects if key.startswith(prefix)}
        yield from sorted({prefix + rest.partition("/")[0] + "/" for rest in below if "/" in rest})

    def bodies(self, versions):
        for place, version in enumerate(version for version in versions if version):
            yield place, self.objects[version.key]


@dataclass(frozen=True)
class Cost:
    """What an hour of one kind took."""

    kind: str
    objects: int
    bytes: int
    compaction_s_per_mb: float
    rewrite_s_per_mb: float
    rows: int
    statuses: dict[str, int]
    probe_s: float
    """CPU seconds of a fixed piece of Python, before and afterwards: how fast the machine was."""


def stand(lake):
    """Give a table as many columns as one may have."""
    lake.record(RULE, Evidence(9, {(f"f{number}",): {"double": 9} for number in range(COLUMNS)}), lake.form, COLUMNS)


def cost(kind, megabytes, form):
    """Return what so many megabytes of a kind take."""
    raw, lake = Kept(), Lake(Kept(), "lake", form=form)
    chance, size = random.Random(SEED), 0
    while size < megabytes * 1e6:
        payload, number = KINDS[kind](len(raw.objects)), len(raw.objects)
        raw.put_new(
            RULE.raw_key(RawName(HOUR.start_ms + number, f"{chance.getrandbits(32):08x}-0000-4000-8000-000000000000")),
            payload,
        )
        size += len(payload)
    new = lake.next_generation
    if "1,000 columns" in kind:
        stand(lake)
        stand(new)
    speed = probe()
    started = time.process_time()
    done = compact_hour(raw, lake, RULE, HOUR)
    compacted = time.process_time()
    new.record(RULE, learnt(lake, new.contract(RULE), RULE, HOUR), new.form, COLUMNS)
    rewrite_hour(lake, new, RULE, HOUR)
    rewritten = time.process_time()
    a_mb = 1e6 / size
    compaction_s, rewrite_s = (round(seconds * a_mb, 3) for seconds in (compacted - started, rewritten - compacted))
    return Cost(
        kind, len(raw.objects), size, compaction_s, rewrite_s, done.rows, done.statuses, round((speed + probe()) / 2, 3)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--mb", type=float, default=2.0)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    found = []
    cost("small objects of two names", 0.2, LENIENT)  # so that what is done once falls to none of them
    for kind in arguments.only:
        found.append(
            asdict(
                max(
                    (cost(kind, arguments.mb, form) for form in (Form(), LENIENT)),
                    key=lambda each: each.compaction_s_per_mb / each.probe_s,
                )
            )
        )
        print(json.dumps(found[-1]), flush=True)
    if arguments.write:
        from benchmarks import report

        report.write_hostile(found)


if __name__ == "__main__":
    main()
