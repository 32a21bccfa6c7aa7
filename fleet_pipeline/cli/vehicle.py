"""`fleet vehicle`: vehicles with the real AWS IoT SDK."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.personal import erase, export
from fleet_pipeline.cli.shown import ask, console, errors, progress, styled
from fleet_pipeline.cloud.enrolment import allow_list, connecting, replaced
from fleet_pipeline.cloud.enrolment.hook_log import EVER, decisions
from fleet_pipeline.model.errors import InvalidName, RegistrationRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.meant import did_you_mean
from fleet_pipeline.model.plain import plain

if TYPE_CHECKING:
    from fleet_pipeline.vehicle.identity import Identity
    from fleet_pipeline.vehicle.registration import Registered


@click.group()
def vehicle() -> None:
    """Vehicles, as the AWS IoT SDK sees them: over mTLS, with certificates of their own."""


vehicle.add_command(export)
vehicle.add_command(erase)


def _saying(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option that says what vehicles send as they register."""
    said = (
        "What a vehicle says of itself beside its serial as it registers, as Vin=…. One that is required and not given "
        "is made up. Several of one name: each vehicle sends the next."
    )
    return click.option("--parameter", "parameters", multiple=True, metavar="NAME=TEXT", help=said)(command)


@vehicle.command("register")
@click.option("--serial", required=True, help="Serial number, such as 297468000001.")
@click.option(
    "--claim",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of another claim certificate, as `fleet claim temporary` makes it.",
)
@click.option(
    "--own-key", is_flag=True, help="The vehicle makes its key itself and never shows it; AWS IoT certifies it."
)
@_saying
@click.pass_obj
def register_one(fleet: Fleet, serial: str, claim: Path | None, parameters: tuple[str, ...], *, own_key: bool) -> None:
    """Register a vehicle with the claim certificate and save its own certificate."""
    said = _said(fleet, parameters)
    for registered in register_all(fleet, Account.of(fleet), [serial], claim, own_key=own_key, said=said):
        if registered.anew:
            console.print(
                f"registered {registered.thing_name}, certificate {registered.certificate_id}, kept in "
                f"{registered.folder}"
            )
            now = connecting.of_vehicle(fleet, Account.of(fleet).aws, registered.serial)
            if isinstance(now, connecting.Noticed) and now.kind == "twofold":
                console.print(styled(("note:", "yellow"), f" {now}"), soft_wrap=True)
        else:
            console.print(_as_it_was(registered, parameters, own_key=own_key), soft_wrap=True)


def _as_it_was(registered: "Registered", parameters: Sequence[str], *, own_key: bool) -> str:
    """Return what is to be said of a vehicle that was registered before, and of what was asked in vain."""
    unsent = [*parameters, *(["--own-key"] if own_key else [])]
    vain = (
        f". Nothing was sent, so {', '.join(unsent)} changed nothing: to register it anew, run `fleet vehicle allow "
        f"--replace --serial {registered.serial}` and remove {registered.folder}"
        if unsent
        else ""
    )
    return (
        f"{registered.thing_name} is registered already, certificate {registered.certificate_id}, kept in "
        f"{registered.folder}{vain}"
    )


@vehicle.command()
@click.option(
    "--vehicles",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="How many vehicles drive; those not registered yet are registered first.",
)
@click.option(
    "--messages", type=click.IntRange(1), default=60, show_default=True, help="How many messages each one publishes."
)
@click.option(
    "--serial", "named", multiple=True, help="Let this vehicle drive, not made-up ones; may be given several times."
)
@_saying
@click.pass_obj
def drive(fleet: Fleet, vehicles: int, messages: int, named: tuple[str, ...], parameters: tuple[str, ...]) -> None:
    """Let vehicles drive and publish telemetry to all rules by Basic Ingest.

    What a rule's WHERE leaves out is published all the same, and lies nowhere. Exit code 1 if a vehicle is refused;
    the others drive.
    """
    from fleet_pipeline.vehicle.driving import made_up_serials

    account = Account.of(fleet)
    serials = [fleet.serial(each) for each in named] or made_up_serials(fleet, vehicles)
    refused: list[RegistrationRefused] = []
    driving = [
        each.serial for each in register_all(fleet, account, serials, said=_said(fleet, parameters), refused=refused)
    ]
    for each in refused:
        errors.print(styled(("error:", "red"), f" {each}"), soft_wrap=True)
    if not driving:
        sys.exit(1)
    begun = Hour.of(datetime.now(UTC))
    driven = drive_all(fleet, account, driving, messages)
    for key, ids in driven.items():
        rule = fleet.rule(key)
        left_out = "" if rule.keeps_payloads else " published, of which the lake has what its SQL selects"
        console.print(f"{rule.topic}: {len(ids)} messages{left_out}", highlight=False)
    hours = f"--from {begun.partition_key} --through {Hour.of(datetime.now(UTC)).partition_key}"
    console.print(f"They are raw objects in S3 now; `fleet compact {hours}` makes rows of them.", soft_wrap=True)
    sys.exit(1 if refused else 0)


@vehicle.command()
@click.option("--serial", help="Serial number of the vehicle, as it was sent.")
@click.option("--client", help="Client id of the vehicle, as it was sent.")
@click.pass_obj
def why(fleet: Fleet, serial: str | None, client: str | None) -> None:
    """Say what the hook decided about a vehicle, and for what reason; about all of the last hour, when none is named.

    Of a serial it says, too, whether its vehicle can connect now: whether AWS IoT has its thing, a certificate that is
    active, and the device policy on it. `fleet vehicle check` looks at all vehicles.

    What a request had as its serial may be anything: without --serial, what the hook was asked is listed as it was
    sent.
    """
    named = serial is not None or client is not None
    since = EVER if named else datetime.now(UTC) - timedelta(hours=1)
    decided = decisions(fleet, Account.of(fleet).aws, serial, client, since=since)
    for each in decided:
        asked = "" if serial is not None else f" (serial {each.serial}, client {each.client_id})"
        answer = f"{each.at:%Y-%m-%d %H:%M:%S} {'allowed' if each.allowed else 'refused'}: {each.reason}{asked}"
        console.print(plain(answer), markup=False, soft_wrap=True)
    if decided and "no replacement was allowed" in decided[-1].reason:
        console.print(
            "If it is the same vehicle with a new device, `fleet vehicle allow --replace --serial …` lets it register "
            "once more."
        )
    if not decided:
        console.print(
            "the hook was not asked about it, or its log is not yet stored"
            if named
            else "the hook was not asked within the last hour"
        )
    if serial is not None:
        console.print(
            plain(f"now: {connecting.of_vehicle(fleet, Account.of(fleet).aws, serial)}", 2000), soft_wrap=True
        )


@vehicle.command()
@click.pass_obj
def check(fleet: Fleet) -> None:
    """Look at every vehicle that is registered, and name those that cannot connect: the device policy was detached from
    the certificate by hand, the certificate was deactivated, or taken from its thing. Vehicles that can connect by more
    certificates than one, as after a replacement, are named, too.

    One call to AWS IoT for each vehicle, and one for each 250 things, certificates and holders of the policy; more for
    what it names. Exit code 1 if any is cut off.
    """
    aws = Account.of(fleet).aws
    things = connecting.named_as_ours(fleet, aws)
    with progress() as bar:
        task = bar.add_task("vehicles looked at", total=len(things))
        found = []
        for number, each in enumerate(connecting.looked_at(fleet, aws, things), 1):
            bar.update(task, completed=min(number, len(things)))
            found += [each] if each else []
    cut_off, others, twofold = (
        [each for each in found if each.kind == kind] for kind in ("cut off", "others", "twofold")
    )
    for each in cut_off:
        console.print(styled(("cut off:", "red"), f" {each}"), soft_wrap=True)
    for each in twofold:
        console.print(styled(("more than one:", "yellow"), f" {each}"), soft_wrap=True)
    if others:
        console.print(
            f"{len(others):,} things have certificates with policies of others alone, as another fleet's have; `fleet "
            "vehicle why --serial …` says which",
            soft_wrap=True,
        )
    console.print(f"{len(things):,} things are named {fleet.thing_prefix}…; {len(cut_off):,} vehicles cannot connect")
    if not things and not connecting.is_made(fleet, aws):
        none = "there is no device policy yet, so that no vehicle can register: `fleet apply` makes the fleet"
        console.print(none, soft_wrap=True)
    sys.exit(1 if cut_off else 0)


@vehicle.command()
@click.option("--serial", "serials", multiple=True, required=True, help="Serial number; may be given several times.")
@click.option(
    "--replace", is_flag=True, help="Let a vehicle that is registered already be given a new certificate, once."
)
@click.pass_obj
def allow(fleet: Fleet, serials: tuple[str, ...], *, replace: bool) -> None:
    """Put serials on the allow-list, or allow a replacement.

    The certificate that a replaced vehicle had goes on working until `fleet vehicle retire` ends it: `fleet vehicle
    check` names it.
    """
    account = Account.of(fleet)
    for serial in serials:
        (allow_list.allow_replacement if replace else allow_list.add)(fleet, account.aws, fleet.serial(serial))
        former = f"; what it has works until `fleet vehicle retire --serial {serial}`, after it has registered anew"
        console.print(f"{serial}: {f'may be replaced once{former}' if replace else 'may register'}", soft_wrap=True)


@vehicle.command()
@click.option("--serial", "serials", multiple=True, help="Serial number; may be given several times.")
@click.option("--all", "all_of_them", is_flag=True, help="Of all vehicles that are registered.")
@click.option("--keep", default="", metavar="ID", help="The certificate that works on, where it is not the newest.")
@click.option(
    "--every", is_flag=True, help="After a theft: end its newest, too. It cannot connect until it registers anew."
)
@click.option("--delete", is_flag=True, help="Delete them, too. Otherwise they are off, and can be restored.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def retire(  # noqa: PLR0913 (options)
    fleet: Fleet, *, serials: tuple[str, ...], all_of_them: bool, keep: str, every: bool, delete: bool, yes: bool
) -> None:
    """End the former certificates of vehicles: all but the newest that works, as after a replacement.

    Shows them, and asks. Certificates that have policies of others are left alone. What is off keeps its thing and its
    policy until it is deleted; `fleet vehicle restore --certificate …` turns it on again. Exit code 1 if of a vehicle
    it is not clear which is its newest.
    """
    if bool(serials) == all_of_them:
        raise click.UsageError("name vehicles by --serial, or say --all")
    if (keep or every) and (all_of_them or len(serials) > 1 or (keep and every)):
        raise click.UsageError("--keep and --every are said of one vehicle, by --serial, and one of them")
    aws = Account.of(fleet).aws
    found = _all_replaced(fleet, aws) if all_of_them else _replaced(fleet, aws, serials, keep, every=every)
    going = [each for of_thing in found for each in _shown_replaced(of_thing) if delete or each.status == "ACTIVE"]
    unclear = any(each.unclear for each in found)
    if not going:
        console.print("there is no former certificate to end")
        sys.exit(1 if unclear else 0)
    if not yes:
        ask(f"{'Delete' if delete else 'Turn off'} {len(going):,} certificates?")
    for done in replaced.end(fleet, aws, going, delete=delete):
        console.print(done, soft_wrap=True)
    sys.exit(1 if unclear else 0)


@vehicle.command()
@click.option("--serial", required=True, help="Serial number of the vehicle.")
@click.option(
    "--certificate", default="", metavar="ID", help="Its certificate, where it is not the newest of its thing."
)
@click.pass_obj
def restore(fleet: Fleet, serial: str, certificate: str) -> None:
    """Let a vehicle connect again that was cut off by hand: its certificate is active, has the device policy, and its
    thing has it.

    Not a certificate that was revoked, nor one with policies of others.
    """
    aws = Account.of(fleet).aws
    done = list(replaced.put_back(fleet, aws, fleet.thing_name(fleet.serial(serial)), certificate))
    console.print("\n".join(done) or f"{serial}: nothing was missing", soft_wrap=True)


@vehicle.command()
@click.pass_obj
def allowed(fleet: Fleet) -> None:
    """Read the allow-list as the hook does: how many serials it names, and what of it is not clear.

    Exits with 1 when something is not.
    """
    listed = allow_list.read(fleet, Account.of(fleet).aws)
    console.print(f"{len(set(listed.serials)):,} serials may register")
    for each in listed.unclear:
        console.print(plain(f"not clear, so it names nobody: {each}"), markup=False)
    if listed.unclear:
        sys.exit(1)


def _all_replaced(fleet: Fleet, aws: Aws) -> list[replaced.Replaced]:
    things = connecting.named_as_ours(fleet, aws)
    with progress() as bar:
        looked_at = replaced.all_replaced(fleet, aws, things)
        return [each for each in bar.track(looked_at, len(things) + 1, description="vehicles looked at") if each]


def _replaced(fleet: Fleet, aws: Aws, serials: Sequence[str], keep: str, *, every: bool) -> list[replaced.Replaced]:
    found = []
    for serial in serials:
        thing = fleet.thing_name(fleet.serial(serial))
        each = replaced.replaced(fleet, aws, thing, keep, every=every)
        if each is None:
            raise InvalidName("thing", thing, "there is none: its vehicle is not registered")
        found.append(each)
    return found


def _shown_replaced(found: replaced.Replaced) -> tuple[replaced.Certificate, ...]:
    """Show what there is to end of a thing, and return it."""
    if found.former or found.unclear or found.left:
        console.print(f"thing {found.thing!r}" if found.thing else "no thing")
    for what, each in [("keeps", found.kept), *(("former", each) for each in found.former)]:
        if each and (found.former or found.unclear):
            made = f"{each.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            console.print(f"  {what:<6} {each.certificate_id}, {each.status}, made {made}", soft_wrap=True)
    for why in (*filter(None, [found.unclear]), *found.left):
        console.print(f"  left: {why}", soft_wrap=True)
    return found.former


def _said(fleet: Fleet, parameters: Sequence[str]) -> dict[str, list[str]]:
    """Return what was said for each parameter, in its order. Raises InvalidName for an unknown one."""
    said: dict[str, list[str]] = {}
    known = [each.name for each in fleet.parameters]
    for name, text in map(_named, parameters):
        if name not in known:
            meant = did_you_mean(name, known) or f"there are {', '.join(known) or 'none'}"
            raise InvalidName("parameter", name, f"no [parameters.{name}] is declared in the settings; {meant}")
        said.setdefault(name, []).append(text)
    return said


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidName("parameter", text, "write it as NAME=TEXT, such as Vin=WVWZZZ1JZXW000001")
    return name, value


def register_all(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    account: Account,
    serials: Sequence[str],
    claim_folder: Path | None = None,
    *,
    own_key: bool = False,
    said: Mapping[str, Sequence[str]] | None = None,
    refused: list[RegistrationRefused] | None = None,
) -> "list[Registered]":
    """Register vehicles with the claim certificate, or the one in a folder, those that have a certificate of their own
    already excepted; show how far it is. Of what is said for a parameter each vehicle sends the next.

    Where `refused` is given, whoever is refused is noted there and holds up no other.
    """
    from fleet_pipeline.vehicle.registration import register

    identity, done = _claim(fleet, account, claim_folder), []
    with progress() as bar:
        for number, serial in enumerate(bar.track(serials, description="vehicles registered"), 1):
            parameters = {
                **fleet.made_up_parameters(number),
                **{name: texts[(number - 1) % len(texts)] for name, texts in (said or {}).items()},
            }
            way = (fleet, account.broker, identity, serial, account.home)
            try:
                done.append(register(*way, own_key=own_key, parameters=parameters))
            except RegistrationRefused as error:
                if refused is None:
                    raise
                refused.append(error)
    return done


def drive_all(fleet: Fleet, account: Account, serials: Sequence[str], messages: int) -> Mapping[str, Sequence[str]]:
    """Let vehicles drive and publish so many messages each, and show how far it is; return the ids of the messages that
    were acknowledged, by the rule's key.
    """
    from fleet_pipeline.vehicle.driving import drive as drive_vehicles

    with progress() as bar:
        task = bar.add_task("messages acknowledged", total=len(serials) * messages)
        return drive_vehicles(
            fleet,
            account.broker,
            account.home,
            serials,
            messages,
            on_acknowledged=lambda count: bar.advance(task, count),
        ).acknowledged


def _claim(fleet: Fleet, account: Account, folder: Path | None) -> "Identity":
    from fleet_pipeline.cloud.claims.certificates import read_claim
    from fleet_pipeline.vehicle.identity import CERTIFICATE, PRIVATE_KEY, Identity, VehicleFolder

    if folder is None:
        claim = read_claim(fleet, account.aws)
        return Identity(claim.certificate_pem, claim.private_key)
    found = VehicleFolder(folder).read()
    if found is None:
        raise InvalidName(
            "claim folder",
            str(folder),
            f"it must hold {CERTIFICATE} and {PRIVATE_KEY}, as `fleet claim temporary --folder` writes them",
        )
    return found
