"""The allow-list: what is put on it is what the hook finds, in an S3 object and in a DynamoDB table alike, and as spreadsheets save it."""

from contextlib import nullcontext
from dataclasses import replace

import lambda_function as hook
import pytest
import serials as hooks_serials
from aws_calls import answer
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.model.errors import AwsUnavailable, InvalidSetting

ONE, TWO, THREE = "297468000001", "297468000002", "297468000003"


@pytest.fixture(params=["s3", "dynamodb"])
def listed(request, fleet, aws):
    """The fleet with a list of this kind, and the list as the hook reads it."""
    chosen = replace(fleet, allow_list=request.param)
    parts = blueprint(chosen)
    if request.param == "s3":
        reconcile(parts["bucket"].resource, aws)
        return chosen, hook.S3AllowList(aws.s3, chosen.bucket, chosen.allow_list_key)
    reconcile(parts["allow_list_table"].resource, aws)
    return chosen, hook.DynamoDbAllowList(aws.dynamodb, chosen.allow_list_table)


def test_the_hook_finds_the_serials_that_were_put_on_the_list_and_no_others(listed, aws):
    fleet, found = listed
    with nullcontext() if fleet.allow_list == "dynamodb" else pytest.raises(hook.Unclear, match="there is no list"):
        assert not found.names(ONE)
    for serial in (ONE, TWO, ONE):
        allow_list.add(fleet, aws, serial)
    assert [found.names(serial) for serial in (ONE, TWO, THREE, ONE[:-1])] == [True, True, False, False]


def test_a_serial_is_listed_once_however_often_it_is_added(fleet, aws):
    reconcile(blueprint(fleet)["bucket"].resource, aws)
    for serial in (ONE, TWO, ONE):
        allow_list.add(replace(fleet, allow_list="s3"), aws, serial)
    assert aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read().decode().split() == [
        ONE,
        TWO,
    ]


@pytest.mark.parametrize("there_before", [(), (ONE,)])
def test_of_two_who_write_the_list_at_once_neither_overwrites_the_other(fleet, aws, there_before):
    fleet, rival = replace(fleet, allow_list="s3"), replace(aws)
    reconcile(blueprint(fleet)["bucket"].resource, aws)
    for serial in there_before:
        allow_list.add(fleet, aws, serial)
    answer(aws.s3, "PutObject", by=lambda **_: allow_list.add(fleet, rival, TWO))
    with pytest.raises(AwsUnavailable, match="PreconditionFailed"):
        allow_list.add(fleet, aws, THREE)
    allow_list.add(fleet, rival, THREE)
    assert aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read().decode().split() == [
        *there_before,
        TWO,
        THREE,
    ]


def test_without_a_list_nothing_can_be_put_on_it(fleet, aws):
    with pytest.raises(InvalidSetting, match="FLEET_ALLOW_LIST"):
        allow_list.add(fleet, aws, ONE)


def test_a_replacement_that_was_allowed_is_used_once(fleet, aws):
    thing, things = fleet.thing_name(ONE), hook.IotThings(aws.iot)
    aws.iot.create_thing(thingName=thing, attributePayload={"attributes": {"colour": "red"}})
    expected = hook.Expected(fleet.serial_prefix, fleet.thing_prefix, fleet.template_arn)
    claim, mine, other = (
        aws.iot.create_keys_and_certificate(setAsActive=active)["certificateId"] for active in (True, False, False)
    )
    request = {
        "templateArn": fleet.template_arn,
        "claimCertificateId": claim,
        "certificateId": mine,
        "parameters": {"SerialNumber": ONE},
    }
    assert not hook.decide(request, expected, things, None).allowed
    allow_list.allow_replacement(fleet, aws, ONE)
    assert [
        hook.decide({**request, "certificateId": each}, expected, things, None).allowed for each in (mine, other)
    ] == [True, False]
    attributes = aws.iot.describe_thing(thingName=thing)["attributes"]
    assert (attributes["colour"], hook.Reservation.read(attributes["replacement"]).certificate_id) == ("red", mine)


FORM = "297468[0-9A-Z]{6,26}"
CODECS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")

TABLES = {
    "one a line": f"{ONE}\n{TWO}\n",
    "Windows's line ends": f"{ONE}\r\n{TWO}\r\n",
    "an old Mac's line ends": f"{ONE}\r{TWO}",
    "no end of the last line": f"{ONE}\n{TWO}",
    "blank lines and blanks": f"\n  {ONE}\t \n\n \n{TWO}\u00a0\n\n",
    "quotation marks": f'"{ONE}"\n"{TWO}"\n',
    "a heading": f"Serial number\n{ONE}\n{TWO}\n",
    "a heading in quotation marks": f'"SERIAL"\n"{ONE}"\n"{TWO}"\n',
    "semicolons": f"serial;depot\n{ONE};Köln\n{TWO};Ulm\n",
    "commas": f"depot,serial\nKöln,{ONE}\nUlm,{TWO}\n",
    "tabs": f"{ONE}\tKöln\n{TWO}\tUlm\n",
    "empty columns": f"{ONE};;\n{TWO};;\n",
    "a separator in quotation marks": f'driver;Seriennummer\n"Meier; Hans";{ONE}\n"Graf, Eva";{TWO}\n',
    "digits kept as text": f'="{ONE}"\n\'{TWO}\n',
    "all in one line": f"{ONE}, {TWO}",
    "a column of former serials": f"serial;replaces\n{ONE};{THREE}\n{TWO};\n",
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_a_list_is_read_as_a_spreadsheet_saves_it(text, codec):
    listed = hooks_serials.serial_list(text.encode(codec), FORM)
    assert [listed.names(serial) for serial in (ONE, TWO, THREE)] == [True, True, False]
    lines = list(listed.read())
    assert ([serial for _, found, _ in lines for serial in found], [wrong for *_, wrong in lines if wrong]) == (
        [ONE, TWO],
        [],
    )


UNCLEAR = {
    "a digit too few in one line": f"{THREE}\n29746800\n",
    "a number as spreadsheets round it": f"{THREE}\n2.97468E+11\n",
    "small letters": f"{THREE}\n{THREE}abc\n",
    "two serials and something else": f"{THREE}\n{ONE};{TWO};Ulm\n",
    "two columns of serials and no heading that tells them apart": f"new;old\n{THREE};Ulm\n{ONE};{TWO}\n",
}


@pytest.mark.parametrize("text", UNCLEAR.values(), ids=UNCLEAR)
def test_what_can_be_read_in_two_ways_or_in_none_names_nobody_and_is_said_with_its_line(text):
    listed = hooks_serials.SerialList(text, FORM)
    assert listed.names(THREE)
    assert [number for number, _, wrong in listed.read() if wrong] == [text.count("\n")]
    unclear = pytest.raises(hooks_serials.Unclear, match="several serials") if ONE in text else nullcontext()
    with unclear:
        assert not listed.names(ONE)


@pytest.mark.parametrize(
    "body", [b"PK\x03\x04 a workbook", b"\x89PNG\r\n\x1a\n", "name;depot\nÄrger;Köln\n".encode("cp1252")]
)
def test_a_list_without_a_single_serial_is_not_clear(body):
    with pytest.raises(hooks_serials.Unclear):
        hooks_serials.serial_list(body, FORM).names(ONE)


@given(st.lists(st.text(), max_size=8), st.binary(max_size=60))
def test_whatever_a_list_holds_the_two_ways_to_read_it_agree(cells, noise):
    for body in ("\n".join([*cells, ONE, f"{TWO};{THREE};x"]).encode(errors="replace"), noise):
        try:
            listed = hooks_serials.serial_list(body, FORM)
            found = {serial for _, line, _ in listed.read() for serial in line}
            assert {serial for serial in (ONE, TWO, THREE) if listed.names(serial)} == found
        except hooks_serials.Unclear:
            pass


@pytest.mark.parametrize("codec", CODECS)
def test_a_list_of_a_spreadsheet_is_edited_in_its_own_form(fleet, aws, codec):
    fleet = replace(fleet, allow_list="s3")
    reconcile(blueprint(fleet)["bucket"].resource, aws)
    table = f"Größe;Serial\r\nXL;{ONE}\r\nM;{THREE}"
    aws.s3.put_object(Bucket=fleet.bucket, Key=fleet.allow_list_key, Body=table.encode(codec))
    allow_list.add(fleet, aws, TWO)
    allow_list.add(fleet, aws, ONE)
    allow_list.take_off(fleet, aws, THREE)
    body = aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read()
    assert body.decode(codec).split("\r\n") == ["Größe;Serial", f"XL;{ONE}", f";{TWO}", ""]
    assert allow_list.read(fleet, aws) == allow_list.Listed((ONE, TWO), ())


def test_the_command_says_how_many_may_register_and_what_of_the_list_is_not_clear(fleet, aws, command, monkeypatch):
    monkeypatch.setenv("FLEET_ALLOW_LIST", "s3")
    chosen = replace(fleet, allow_list="s3")
    reconcile(blueprint(chosen)["bucket"].resource, aws)
    aws.s3.put_object(
        Bucket=chosen.bucket, Key=chosen.allow_list_key, Body=f"serial\n{ONE}\n{TWO}\n\x1b[31mnone\n".encode()
    )
    code, said = command(chosen, "vehicle", "allowed")
    assert (code, "2 serials may register" in said, r"line 4: it holds no serial" in said) == (1, True, True)
    aws.s3.put_object(Bucket=chosen.bucket, Key=chosen.allow_list_key, Body=f"{ONE}\n".encode())
    assert command(chosen, "vehicle", "allowed")[0] == 0


def test_what_the_hook_cannot_read_of_a_table_is_said_too(fleet, aws):
    chosen = replace(fleet, allow_list="dynamodb")
    reconcile(blueprint(chosen)["allow_list_table"].resource, aws)
    for key in (ONE, f" {TWO}", "297468abcdef"):
        aws.dynamodb.put_item(TableName=chosen.allow_list_table, Item={"serial": {"S": key}})
    found = allow_list.read(chosen, aws)
    assert (found.serials, len(found.unclear)) == ((ONE,), 2)


def test_without_a_list_there_is_none_to_read(fleet, aws):
    with pytest.raises(InvalidSetting, match="FLEET_ALLOW_LIST"):
        allow_list.read(fleet, aws)
