"""What the factory is given is all that a vehicle needs, and lies in a folder for its owner alone."""

import json
import stat

import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.identity import VehicleFolder
from fleet_pipeline.vehicle.registration import register

SERIAL = "297468000001"


def test_with_the_files_alone_a_vehicle_registers_and_publishes(fleet, command, tmp_path):
    account = Account.of(fleet)
    for resource in resources(blueprint(fleet)):
        reconcile(resource, account.aws)
    code, said = command(fleet, "claim", "files", "--folder", str(tmp_path / "factory"))
    assert code == 0, said
    assert read_claim(fleet, account.aws).private_key.splitlines()[1] not in said
    folder = tmp_path / "factory"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "private.key").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"
    said = json.loads((folder / "connection.json").read_text())
    broker = Broker(said["endpoint"], said["port"], folder / "server-ca.pem")
    register(fleet, broker, VehicleFolder(folder).read(), SERIAL, tmp_path / "home")
    thing = said["client_id_once_registered"].replace("<serial>", SERIAL)
    with connected(broker, VehicleFolder.of(tmp_path / "home", thing).read(), thing) as connection:
        for topics in said["publish"].values():
            connection.send(topics[0].replace("<serial>", SERIAL), b"{}")()
    assert said["template"] == fleet.template_name
    assert said["client_id"] == f"{fleet.claim_client_prefix}<serial>"


@pytest.mark.parametrize("what", ["files", "temporary"])
def test_a_folder_that_is_there_is_left_as_it_is(fleet, command, tmp_path, what):
    (tmp_path / "factory").mkdir()
    code, said = command(fleet, "claim", what, "--folder", str(tmp_path / "factory"))
    assert code == 1
    assert "would be overwritten" in said
    assert not [*(tmp_path / "factory").iterdir()]
