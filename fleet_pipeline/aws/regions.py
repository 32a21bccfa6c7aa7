"""Which regions there are, as far as the installed botocore knows."""

from botocore.loaders import create_loader

from fleet_pipeline.model.meant import did_you_mean

_NEAR = 0.8
"""How near a region's name must be for anybody to have meant it: all are alike."""


def warning_of(region: str) -> str:
    """Return a sentence on a region that botocore does not know, empty for one that it does.

    A region may be younger than botocore, so this is no error.
    """
    known = [
        name
        for partition in create_loader().load_data("partitions")["partitions"]
        for name in partition["regions"]
        if not name.endswith("-global")
    ]
    if region in known:
        return ""
    meant = did_you_mean(region, known, _NEAR) or "look how it is written"
    return (
        f"FLEET_REGION is {region}, a region that the installed botocore does not know: {meant} (One "
        "that is younger than botocore may be right.)"
    )
