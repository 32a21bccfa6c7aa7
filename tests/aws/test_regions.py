"""A region that botocore does not know is said to be one, and is no error: it may be younger than botocore."""

import pytest
from botocore.loaders import create_loader

from fleet_pipeline.aws.regions import warning_of
from fleet_pipeline.model.fleet import Fleet

KNOWN = [
    region
    for partition in create_loader().load_data("partitions")["partitions"]
    for region in partition["regions"]
    if not region.endswith("-global")
]


@pytest.mark.parametrize("region", KNOWN)
def test_of_a_region_that_there_is_nothing_is_said(region):
    assert warning_of(region) == ""


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("eu-centrl-1", "did you mean eu-central-1?"),
        ("ap-souteast-2", "did you mean ap-southeast-2?"),
        ("eu-nowhere-7", "look how it is written"),
    ],
)
def test_one_with_a_slip_is_named_with_the_one_that_is_meant_and_passes_all_the_same(
    said, meant, command, tmp_path, monkeypatch
):
    assert Fleet(region=said).region == said
    assert f"FLEET_REGION is {said}, a region that the installed botocore does not know: {meant}" in warning_of(said)
    monkeypatch.setenv("FLEET_REGION", said)
    code, printed = command(Fleet(home=str(tmp_path / "none")), "settings")
    assert (code, f"note: FLEET_REGION is {said}" in printed, f"FLEET_REGION={said}" in printed) == (0, True, True)
