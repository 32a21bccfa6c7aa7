"""What `fleet iam` prints, for tests that look at every document."""

from fleet_pipeline.cloud.documents.iam import (
    PROVISIONER,
    boundary_policy,
    compaction_policy,
    erasure_policy,
    replay_policy,
    retention_policy,
    virtual_vehicle_policy,
)


def documents(fleet):
    """Return every document that `fleet iam` prints, by what its command is told."""
    others = {
        "boundary": boundary_policy,
        "compaction": compaction_policy,
        "erasure": erasure_policy,
        "replay": replay_policy,
        "retention": retention_policy,
        "virtual-vehicle": virtual_vehicle_policy,
    }
    return {
        **{f"provisioner {part}": policy(fleet) for part, policy in PROVISIONER.items()},
        **{name: policy(fleet) for name, policy in others.items()},
    }
