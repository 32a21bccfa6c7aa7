"""Whoever mistypes a name is told the nearest one, in one way for all names."""

from pathlib import Path

import pytest

import fleet_pipeline
from fleet_pipeline.model.meant import did_you_mean


@pytest.mark.parametrize(
    ("said", "known", "meant"),
    [
        ("buket", ["bucket", "region"], "did you mean bucket?"),
        ("VIN", ["Vin"], "did you mean Vin?"),
        ("were", ("WHERE",), "did you mean WHERE?"),
        ("buket", {"bucket": "FLEET_BUCKET"}, "did you mean FLEET_BUCKET?"),
        ("zzz", ["bucket"], ""),
        ("anything", [], ""),
    ],
)
def test_the_nearest_name_is_meant_whatever_its_case(said, known, meant):
    assert did_you_mean(said, known) == meant


def test_nothing_else_in_the_package_looks_for_near_names():
    source = Path(fleet_pipeline.__file__).parent
    assert [path.name for path in source.rglob("*.py") if "get_close_matches" in path.read_text()] == ["meant.py"]
