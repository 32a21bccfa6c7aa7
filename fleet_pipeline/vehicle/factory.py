"""What a factory puts into each vehicle: the claim certificate with its key, and how to connect and to register."""

import json
import shutil
from pathlib import Path

from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.vehicle.connection import Broker
from fleet_pipeline.vehicle.identity import CERTIFICATE, PRIVATE_KEY, Identity, VehicleFolder

CONNECTION, AUTHORITY = "connection.json", "server-ca.pem"


def write_files(fleet: Fleet, broker: Broker, claim: Identity, folder: Path) -> list[str]:
    """Write the files into a folder that only its owner may enter, and return their names.

    `connection.json` says where a vehicle connects, under which client ids, by which template it registers and where it
    publishes then. The authority of AWS on this machine lies beside it; AWS's own, Amazon Trust Services, comes with
    the vehicle's system.
    """
    VehicleFolder(folder).write(claim)
    (folder / CONNECTION).write_text(json.dumps(_connection(fleet, broker), indent=2) + "\n", encoding="utf-8")
    if broker.ca_path:
        shutil.copyfile(broker.ca_path, folder / AUTHORITY)
    return [CERTIFICATE, PRIVATE_KEY, CONNECTION, *([AUTHORITY] if broker.ca_path else [])]


def _connection(fleet: Fleet, broker: Broker) -> dict[str, object]:
    return {
        "endpoint": broker.host,
        "port": broker.port,
        "client_id": f"{fleet.claim_client_prefix}<serial>",
        "template": fleet.template_name,
        "register": f"$aws/provisioning-templates/{fleet.template_name}/provision/json",
        "client_id_once_registered": fleet.thing_name("<serial>"),
        "publish": {
            rule.key: list(rule.published_by(fleet.thing_name("<serial>")))
            for rule in fleet.made_rules
            if rule.enabled and rule.publish
        },
    }
