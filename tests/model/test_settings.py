"""Settings: where they come from, that each wrong one has its own error, and that the documentation lists them all."""

import json
import pickle
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "settings.md"

BAD_VARIABLES = [
    ("FLEET_PROFILE", "cloud", "choose one of local, aws"),
    ("FLEET_ENGINE", "dask://", "dask://host:port"),
    ("FLEET_ENGINE", "dask", "dask://host:port"),
    ("FLEET_ENGINE", "dask://user:word@host:8786", "dask://host:port"),
    ("FLEET_AUTOMATION", "yes", "choose one of off, on, or leave it empty"),
    ("FLEET_PROFILE", "AWS", "choose one of local, aws"),
    ("FLEET_ACCOUNT", "", "12 digits"),
    ("FLEET_ACCOUNT", "12345678901", "12 digits"),
    ("FLEET_ACCOUNT", "1234-5678-9012", "12 digits"),
    ("FLEET_ACCOUNT", "١٢٣٤٥٦٧٨٩٠١٢", "12 digits"),
    ("FLEET_REGION", "frankfurt", "such as eu-central-1"),
    ("FLEET_REGION", "eu-central-1a", "such as eu-central-1"),
    ("FLEET_SERVICE", "", "letters, digits and - inside"),
    ("FLEET_SERVICE", "-cdk", "letters, digits and - inside"),
    ("FLEET_SERVICE", "cdk_test", "letters, digits and - inside"),
    ("FLEET_SERVICE", "cdk-test\n", "letters, digits and - inside"),
    (
        "FLEET_SERVICE",
        "fourteen-chars",
        "'fourteen-chars-dev' has 18, because a provisioning template's name ends at 36",
    ),
    ("FLEET_ENVIRONMENT", "dev/eu", "letters, digits and - inside"),
    ("FLEET_ENVIRONMENT", "production", "may have 17 characters and 'cdk-test-production' has 19"),
    ("FLEET_APPLICATION", "iot & more", "letters, digits and - inside"),
    ("FLEET_APPLICATION", "a" * 65, "1 to 64"),
    ("FLEET_BUCKET", "ab", "3 to 63"),
    ("FLEET_BUCKET", "Fleet-Bucket", "a-z, 0-9 and -"),
    ("FLEET_BUCKET", "fleet_bucket", "a-z, 0-9 and -"),
    ("FLEET_BUCKET", "fleet.bucket", "a-z, 0-9 and -"),
    ("FLEET_BUCKET", "-fleet", "a-z, 0-9 and -"),
    ("FLEET_BUCKET", "fleet-", "a-z, 0-9 and -"),
    ("FLEET_BUCKET", "b" * 64, "3 to 63"),
    ("FLEET_BUCKET", "xn--fleet", "reserved"),
    ("FLEET_BUCKET", "fleet-s3alias", "reserved"),
    ("FLEET_BUCKET", "fleet--x-s3", "reserved"),
    ("FLEET_LAKE_BUCKET", "Lake", "a-z, 0-9 and -"),
    ("FLEET_LAKE_BUCKET", "cdk-s3-test-bucket", "a bucket of its own"),
    ("FLEET_SERIAL_PREFIX", "", "1 to 20 of 0-9 and A-Z"),
    ("FLEET_SERIAL_PREFIX", "abc", "1 to 20 of 0-9 and A-Z"),
    ("FLEET_SERIAL_PREFIX", "2974*", "1 to 20 of 0-9 and A-Z"),
    ("FLEET_SERIAL_PREFIX", "1" * 21, "1 to 20 of 0-9 and A-Z"),
    ("FLEET_RULE_KEYS", "", "at least one rule"),
    ("FLEET_RULE_KEYS", "rule-1", "AWS IoT allows no others in a rule's name"),
    ("FLEET_RULE_KEYS", "a" * 65, "use 1 to 64"),
    ("FLEET_RULE_KEYS", "rule1,rule1", "no two rules"),
    ("FLEET_RULE_KEYS", "rule1,Rule1", "upper case from lower"),
    ("FLEET_RULE_KEYS", "rule 1", "rule key 'rule 1'"),
    ("FLEET_RULE_KEYS", ",".join(f"rule{n}" for n in range(200)), "device policies would name 200 topics"),
    ("FLEET_NESTED_OBJECTS", "json", "choose one of columns, structs"),
    ("FLEET_ARRAYS", "rows", "choose one of whole, elements"),
    ("FLEET_SEVERAL_OBJECTS", "yes", "choose one of off, on"),
    ("FLEET_NUMBERS", "float", "choose one of double, exact"),
    ("FLEET_NEW_COLUMN_MESSAGES", "0", "from 1 to 1000000"),
    ("FLEET_LENIENT_NUMBERS", "yes", "choose one of off, on"),
    ("FLEET_RAW_PREFIX", "test/rule", "no slash"),
    ("FLEET_RAW_PREFIX", "", "1 to 60"),
    ("FLEET_RAW_PREFIX", "t" * 61, "1 to 60"),
    ("FLEET_RAW_PREFIX", "claim-certificate", "belongs to the claim certificate"),
    ("FLEET_RAW_PREFIX", "allow-list", "belongs to the allow-list"),
    ("FLEET_PARQUET_PREFIX", "lake/", "no slash"),
    ("FLEET_ERRORS_PREFIX", "#", "1 to 60"),
    ("FLEET_ERRORS_PREFIX", "test-rule", "belongs to FLEET_RAW_PREFIX"),
    ("FLEET_ERRORS_PREFIX", "claim-certificate", "belongs to the claim certificate"),
    ("FLEET_DELIVERY", "kinesis", "choose one of object, firehose"),
    ("FLEET_DELIVERY_BUFFER_MB", "129", "from 1 to 128"),
    ("FLEET_DELIVERY_BUFFER_SECONDS", "901", "from 0 to 900"),
    ("FLEET_RAW_KEY_FORMAT", "uuid", "choose one of timestamp-uuid, timestamp-uuid-client, timestamp"),
    ("FLEET_ALLOW_LIST", "yes", "choose one of none, s3, dynamodb"),
    ("FLEET_CLAIM_CLIENT_PREFIX", "claim*", "at most 40"),
    ("FLEET_CLAIM_CLIENT_PREFIX", "c" * 41, "at most 40"),
    ("FLEET_CLAIM_STORE", "S3", "choose one of s3, secretsmanager, or leave it empty"),
    ("FLEET_CLAIM_KEYS", "csr", "choose one of aws, own"),
    ("FLEET_OWN_CA", "yes", "choose one of none, jitr, jitp"),
    ("FLEET_BULK_REGISTRATION", "true", "choose one of off, on"),
    ("FLEET_HOOK_RUNTIME", "nodejs22.x", "such as python3.13"),
    ("FLEET_START", "yesterday", "write a day as 2026-01-01"),
    ("FLEET_START", "20260101", "write a day as 2026-01-01"),
    ("FLEET_START", "2026-W01-1", "write a day as 2026-01-01"),
    ("FLEET_START", "2026-01-01T00:00", "write a day as 2026-01-01"),
    ("FLEET_START", "2026-02-30", "there is no such day"),
    ("FLEET_START", "2015-10-07", "no message is older than 2015-10-08"),
    ("FLEET_GRACE_MINUTES", "five", "write a whole number"),
    ("FLEET_GRACE_MINUTES", "60", "from 0 to 59"),
    ("FLEET_CATCH_UP_HOURS", "0", "from 1 to 744"),
    ("FLEET_LOOK_BACK_HOURS", "-1", "from 1 to 168"),
    ("FLEET_SWEEP_DAYS", "1.5", "write a whole number"),
    ("FLEET_LAG_MINUTES", "9", "from 10 to 10080"),
    ("FLEET_QUARANTINE_PERCENT", "101", "from 0 to 100"),
    ("FLEET_QUARANTINE_PERCENT", "nan", "from 0 to 100"),
    ("FLEET_ICEBERG", "hive", "choose one of off, sql, glue, rest, or leave it empty"),
    ("FLEET_ICEBERG", "s3tables", "takes none that lie in another"),
    ("FLEET_ICEBERG_URI", "a database", "as SQLAlchemy does"),
    ("FLEET_ICEBERG_WAREHOUSE", "my warehouse", "without blanks"),
    ("FLEET_ICEBERG_NAMESPACE", "Fleet-Lake", "a-z, 0-9 and _"),
    ("FLEET_ICEBERG_SNAPSHOT_DAYS", "0", "from 1 to 3650"),
    ("FLEET_ICEBERG_READER_SECONDS", "3601", "from 0 to 3600"),
    ("FLEET_RAW_RETENTION_DAYS", "-1", "from 0 to 36500"),
    ("FLEET_LAKE_RETENTION_DAYS", "30", "set FLEET_RAW_RETENTION_DAYS to 1 to 30"),
    ("FLEET_DERIVED_RETENTION_DAYS", "30", "set FLEET_LAKE_RETENTION_DAYS to 1 to 30"),
    ("FLEET_REPORT_RETENTION_DAYS", "a month", "write a whole number"),
    ("FLEET_UPLOAD_RETENTION_DAYS", "36501", "from 0 to 36500"),
    ("FLEET_COMPUTE_LOG_RETENTION_DAYS", "1.5", "write a whole number"),
    ("FLEET_PRICE_GET", "-0.1", "from 0 to 1"),
    ("FLEET_PRICE_PUT", "cheap", "write a number"),
    ("FLEET_ALERT_URL", "hooks.example.com", "write it as https://"),
    ("FLEET_HOME", "", "name a folder"),
    ("FLEET_KMS_KEY", "alias/aws/s3", "alias"),
    ("FLEET_ROLE_BOUNDARY", "boundary", "ARN of a managed policy"),
    ("FLEET_VEHICLE_NAMED_BY", "gateway", "choose one of client_id, message"),
    ("FLEET_VEHICLE_FIELD", "", "a field's name"),
    ("FLEET_VEHICLE_FIELD", "vehicle..id", "with dots between them"),
    ("FLEET_VEHICLE_FIELD", "vehicle\\id", "a field's name"),
    ("FLEET_PREVIEWS", "yes", "choose one of off, on, or leave it empty"),
    ("FLEET_PRIVATE_COLUMNS", "position.latitude=13", "0 to 9 decimals"),
    ("FLEET_VALUES_AS_RULE_KEYS", "on", "choose one of refuse, allow"),
    ("FLEET_DEVICE_RIGHTS", "shadow, everything", "no such choice: 'everything'; choose one of "),
    ("FLEET_POLICY_STATEMENTS", "Allow", "cannot be read as JSON"),
    ("FLEET_RULES", "[[rules]]", "cannot be read as JSON"),
    ("FLEET_TAGS", "cost-centre", "name=text,name=text"),
    ("FLEET_TAGS", "team=cars,team=vans", "each name once"),
    ("FLEET_TAGS", "aws:team=cars", "does not begin with aws:"),
    ("FLEET_TAGS", "fleet_pipeline:stack=other", "or fleet_pipeline:"),
    ("FLEET_TAGS", "Team=cars,team=vans", "upper and lower case"),
    ("FLEET_TAGS", "team=", "1 to 256"),
    ("FLEET_TAGS", "team=a&b", "1 to 256"),
    ("FLEET_TAGS", ",".join(f"tag{number}=x" for number in range(41)), "at most 40"),
    ("FLEET_TAGS", ",".join(f"{'t' * 100}{number}=x" for number in range(2)), "which a policy must name"),
    ("FLEET_HOOK_FILE", "checks", "a Python file"),
    ("FLEET_HOOK_REQUIREMENTS", "requirements.txt", "without FLEET_HOOK_FILE"),
    ("FLEET_HOOK_ENVIRONMENT", "TABLE=vins", "without FLEET_HOOK_FILE"),
    ("FLEET_HOOK_POLICIES", "arn:aws:iam::123456789012:policy/cars", "without FLEET_HOOK_FILE"),
    ("FLEET_HOOK_SUBNETS", "subnet-0123456789abcdef0", "subnets and security groups"),
    ("FLEET_HOOK_SECURITY_GROUPS", "default", "subnets and security groups"),
    ("FLEET_SERIAL_PATTERN", "(a+)+", "is not among"),
    ("FLEET_THING", "[thing]", "cannot be read as JSON"),
    ("FLEET_PARAMETERS", "Vin", "cannot be read as JSON"),
    ("FLEET_GIVEN_BUCKETS", "raw,catalog", "name raw, lake or both"),
    ("FLEET_GIVEN_BUCKETS", "raw,raw", "each once"),
    ("FLEET_ROLE_PATH", "cars", "begin and end with a slash"),
    ("FLEET_ROLE_PATH", "/cars", "begin and end with a slash"),
    ("FLEET_ROLE_PATH", "/*/", "begin and end with a slash"),
    ("FLEET_ROLE_PATH", f"/{'p' * 511}/", "512 characters"),
    ("FLEET_LOG_RETENTION_DAYS", "2", "choose one of 1, 3, 5"),
    ("FLEET_HOOK_CONCURRENCY", "-1", "from 0 to 1000"),
    ("FLEET_HOOK_DEAD_LETTERS", "arn:aws:sns:eu-central-1:123456789012:topic", "the ARN of a standard queue"),
    ("FLEET_HOOK_DEAD_LETTERS", "arn:aws:sqs:eu-west-1:123456789012:queue", "the ARN of a standard queue"),
    ("FLEET_ACCESS_LOG_BUCKET", "Logs", "a bucket that is there"),
    ("FLEET_ACCESS_LOG_BUCKET", "cdk-s3-test-bucket", "not the fleet's"),
    ("FLEET_ACCESS_LOG_PREFIX", "a b", "at most 200"),
    ("FLEET_ACCESS_LOG_PREFIX", "fleet/", "without FLEET_ACCESS_LOG_BUCKET"),
    ("FLEET_RULE_KEYS", "rule1,01", "take 01 for a number, a date or nothing"),
]
"""A variable, its wrong value, and what the error says besides the variable's name."""

BAD_FILES = [
    ("acount = '123456789012'", "acount", "did you mean account?"),
    ("FLEET_ACCOUNT = '123456789012'", "FLEET_ACCOUNT", "did you mean account?"),
    ("[fleet]\naccount = '123456789012'", "fleet", "there is no such setting"),
    ("account = 123456789012", "FLEET_ACCOUNT", "write it in quotation marks"),
    ("start = 2026-01-01", "FLEET_START", "is '2026-01-01': write it in quotation marks"),
    ("[rules]\nkey = 'status'", "rules", "write an array of tables, each below [[rules]]; this is a table"),
    ("device_rights = ['shadows']", "device_rights[0]", "no such choice: 'shadows'; choose one of "),
    ("[parameters.Vin]\npattern = '(a+)+'", "parameters.Vin.pattern", "is not among"),
    ("[thing.attributes]\nvin = '${Vin}'", "thing.attributes.vin", "declared: do so by [parameters.Vin]"),
    ("bucket = ['a', 'b']", "FLEET_BUCKET", "write it in quotation marks"),
    ("bucket = 'B'", "FLEET_BUCKET", "3 to 63"),
    ("grace_minutes = '5'", "FLEET_GRACE_MINUTES", "write a whole number"),
    ("grace_minutes = true", "FLEET_GRACE_MINUTES", "write a whole number"),
    ("price_get = '5'", "FLEET_PRICE_GET", "write a number"),
    ("rule_keys = 'rule1,rule2'", "FLEET_RULE_KEYS", 'such as ["rule1", "rule2"]'),
    ("rule_keys = [1, 2]", "FLEET_RULE_KEYS", 'such as ["1", "2"]'),
    ("private_columns = 'position.latitude=x'", "FLEET_PRIVATE_COLUMNS", 'such as ["position.latitude=x"]'),
    ("rule_keys = []", "FLEET_RULE_KEYS", "at least one rule"),
    ("tags = 'team=cars'", "FLEET_TAGS", "a table of texts, such as [tags]"),
    ("[tags]\ncost-centre = 42", "FLEET_TAGS", "a table of texts, such as [tags]"),
    ("profile = 'aws'", "FLEET_ACCOUNT", "name the account that is meant"),
    ("account =", "fleet.toml", "cannot be read as TOML"),
    ("account = '1'\naccount = '2'", "fleet.toml", "(account is said twice, and each name stands once)"),
    ("tags = 'team=cars'\n[tags]\nteam = 'cars'", "fleet.toml", "(tags is said twice, and each name stands once)"),
    ("bucket = acme", "fleet.toml", "(a text stands in quotation marks)"),
    (b"\xff\xfe", "fleet.toml", "cannot be read as TOML"),
]
"""A file's text, the setting that the error names, and what it says besides."""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "fleet.toml"


def names_of(error):
    """What the error names, as one text: the setting in its attribute and the whole sentence."""
    return f"{Path(error.setting).name} {error}"


@pytest.mark.parametrize(("variable", "value", "words"), BAD_VARIABLES)
def test_a_wrong_variable_has_an_error_of_its_own_that_names_it(file, variable, value, words):
    with pytest.raises(InvalidSetting) as caught:
        settings.read_fleet({variable: value}, file)
    assert re.search(rf"\b{variable}(?![A-Za-z_])", names_of(caught.value))
    assert words in str(caught.value)


@pytest.mark.parametrize(("text", "named", "words"), BAD_FILES)
def test_a_wrong_file_has_an_error_of_its_own_that_names_the_setting(file, text, named, words):
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidSetting) as caught:
        settings.read_fleet({}, file)
    assert Path(caught.value.setting).name == named
    assert words in str(caught.value)


def test_every_setting_can_be_wrong():
    assert {name for name, *_ in settings.described()} <= {variable for variable, *_ in BAD_VARIABLES}


def test_a_folder_is_not_taken_for_the_file(tmp_path):
    with pytest.raises(InvalidSetting, match="cannot be read"):
        settings.read_fleet({}, tmp_path)


def test_an_error_of_a_setting_survives_pickling(file):
    with pytest.raises(InvalidSetting) as caught:
        settings.read_fleet({"FLEET_BUCKET": "B"}, file)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_on_aws_the_account_must_be_named_so_that_a_wrong_one_is_noticed(file):
    with pytest.raises(InvalidSetting, match="FLEET_ACCOUNT: with FLEET_PROFILE=aws, name the account"):
        settings.read_fleet({"FLEET_PROFILE": "aws"}, file)
    assert (
        settings.read_fleet({"FLEET_PROFILE": "aws", "FLEET_ACCOUNT": "210987654321"}, file).account == "210987654321"
    )


LONGEST = {
    "FLEET_SERVICE": "s" * 8,
    "FLEET_ENVIRONMENT": "e" * 8,
    "FLEET_APPLICATION": "a" * 64,
    "FLEET_BUCKET": "b" * 63,
    "FLEET_LAKE_BUCKET": "l" * 63,
    "FLEET_SERIAL_PREFIX": "1" * 20,
    "FLEET_RULE_KEYS": "k" * 64,
    "FLEET_RAW_PREFIX": "r" * 60,
    "FLEET_PARQUET_PREFIX": "p" * 60,
    "FLEET_ERRORS_PREFIX": "e" * 60,
    "FLEET_CLAIM_CLIENT_PREFIX": "c" * 40,
}


def test_the_longest_values_are_taken_and_reach_the_limits_of_aws(file):
    fleet = settings.read_fleet(LONGEST, file)
    assert len(fleet.template_name) == 36
    assert len(fleet.rules[0].aws_name) == 125
    assert len(fleet.thing_name(fleet.serial("1" * 20 + "A" * 26))) == 57


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(file):
    file.write_text('service = "from"\nenvironment = "file"\nrule_keys = ["one", "two"]')
    fleet = settings.read_fleet({"FLEET_ENVIRONMENT": "env"}, file)
    assert (fleet.service, fleet.environment, fleet.region) == ("from", "env", "eu-central-1")
    assert fleet.rule_keys == ("one", "two")
    assert settings.read_fleet({"FLEET_RULE_KEYS": "three, four,"}, file).rule_keys == ("three", "four")


def test_without_any_setting_the_fleet_is_that_of_the_cdk_app_on_this_machine(file):
    fleet = settings.read_fleet({"HOME": "/nowhere", "AWS_PROFILE": "other"}, file)
    assert fleet == Fleet(start=fleet.start)


def test_the_rule_keys_are_by_default_those_of_rule_keys_json(file):
    base = Path(settings.__file__).parent / "rule-keys.json"
    assert (
        settings.read_fleet({}, file).rule_keys == Fleet().rule_keys == tuple(json.loads(base.read_text())["testRules"])
    )


def test_the_lake_bucket_is_by_default_the_bucket_with_lake_behind(file):
    assert settings.read_fleet({"FLEET_BUCKET": "raw"}, file).lake_bucket == "raw-lake"


def test_the_values_of_a_fleet_read_back_as_the_same_fleet(file):
    fleet = settings.read_fleet(LONGEST, file)
    assert settings.read_fleet(dict(settings.values(fleet)), file) == fleet


def test_the_address_of_the_webhook_is_shown_by_nothing(file):
    secret = "https://hooks.example.com/T0/B0/secret"
    fleet = settings.read_fleet({"FLEET_ALERT_URL": secret}, file)
    assert fleet.alert_url == secret
    assert dict(settings.values(fleet))["FLEET_ALERT_URL"] == "(set)"
    assert "secret" not in repr(fleet)
    with pytest.raises(InvalidSetting) as refused:
        settings.read_fleet({"FLEET_ALERT_URL": "secret value"}, file)
    assert "secret value" not in str(refused.value)


def test_every_setting_says_its_meaning_and_the_reason_of_its_default():
    assert len(settings.described()) == len(fields(Fleet))
    assert all(meaning.endswith(".") and reason.endswith(".") for _, _, meaning, reason in settings.described())


def test_the_documentation_lists_every_setting_exactly():
    rows = [
        f"| `{name}` | {f'`{default}`' if default else '(empty)'} | {meaning} | {reason} |"
        for name, default, meaning, reason in settings.described()
    ]
    assert [line for line in DOCUMENTATION.read_text().splitlines() if line.startswith("| `FLEET_")] == rows


def test_the_file_in_the_documentation_is_read(file):
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    file.write_text(example)
    assert settings.read_fleet({}, file) != Fleet()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("FLEET_ACOUNT", "did you mean FLEET_ACCOUNT?"),
        ("FLEET_RULEKEYS", "did you mean FLEET_RULE_KEYS?"),
        ("FLEET_SERVICE_HOST", "there is no such setting"),
        ("FLEET_PORT_80_TCP_ADDR", "there is no such setting"),
        ("FLEET_", "there is no such setting"),
    ],
)
def test_a_variable_of_an_unknown_name_is_warned_of_once_and_changes_nothing(file, variable, hint, caplog):
    settings._warned.discard(variable)
    for _ in range(2):
        assert settings.read_fleet({variable: "tcp://10.0.0.1:80"}, file) == settings.read_fleet({}, file)
    [said] = [record.getMessage() for record in caplog.records if variable in record.getMessage()]
    assert hint in said


def test_the_file_and_the_home_are_found_from_every_folder_of_a_project(tmp_path, monkeypatch):
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    assert settings.find_file({}, deep, tmp_path) == deep / "fleet.toml"
    (tmp_path / "fleet.toml").touch()
    assert settings.find_file({}, deep, tmp_path) == deep / "fleet.toml", "the search goes on above the repository"
    (tmp_path / "project" / ".fleet").mkdir()
    found = settings.find_file({}, deep, tmp_path)
    assert found == tmp_path / "project" / "fleet.toml"
    monkeypatch.chdir(deep)
    assert settings.read_fleet({}, found).home == str(tmp_path / "project" / ".fleet")
    assert settings.read_fleet({"FLEET_HOME": "there"}, found).home == str(tmp_path / "project" / "there")
    assert settings.read_fleet({"FLEET_HOME": "/there"}, found).home == "/there"
    monkeypatch.chdir(tmp_path / "project")
    assert settings.read_fleet({}, found).home == ".fleet"


def test_the_search_ends_at_the_users_home(tmp_path):
    (tmp_path / "fleet.toml").touch()
    (tmp_path / "user" / "work").mkdir(parents=True)
    assert (
        settings.find_file({}, tmp_path / "user" / "work", tmp_path / "user")
        == tmp_path / "user" / "work" / "fleet.toml"
    )


def test_a_file_that_is_named_must_be_there(tmp_path):
    (tmp_path / "other.toml").write_text("service = 'other'")
    found = settings.find_file({"FLEET_FILE": str(tmp_path / "other.toml")}, tmp_path, tmp_path)
    assert settings.read_fleet({"FLEET_FILE": str(found)}, found).service == "other"
    with pytest.raises(InvalidSetting, match=r"FLEET_FILE.*there is no such file"):
        settings.find_file({"FLEET_FILE": str(tmp_path / "none.toml")}, tmp_path, tmp_path)


def test_on_this_machine_the_first_day_is_that_of_aws_here(tmp_path):
    today = {f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%d}" for hours in (6, 7)}
    file, folder = tmp_path / "fleet.toml", tmp_path / ".fleet" / "local-aws"
    assert settings.read_fleet({}, file).start in today  # AWS was never started here
    folder.mkdir(parents=True)
    assert settings.read_fleet({}, file).start == "2026-01-01"  # a former version started it, which knew no such day
    (folder / "first-day").write_text("2026-11-20")
    assert settings.read_fleet({}, file).start == "2026-11-20"
    assert settings.read_fleet({"FLEET_START": "2026-11-01"}, file).start == "2026-11-01"
    assert settings.read_fleet({"FLEET_PROFILE": "aws", "FLEET_ACCOUNT": "210987654321"}, file).start == "2026-01-01"


def test_in_python_settings_are_said_as_in_the_file_tables_among_them(tmp_path, file):
    file.write_text(
        'bucket = "acme-dev"\n[tags]\nteam = "mobility"\n[[rules]]\nkey = "status"\nsql = "SELECT * FROM \'vehicles/+/status\'"\n'
    )
    said = {
        "bucket": "acme-dev",
        "tags": {"team": "mobility"},
        "rules": [{"key": "status", "sql": "SELECT * FROM 'vehicles/+/status'"}],
    }
    of_file = settings.read_fleet({}, file)
    of_python = settings.fleet_of(**said)
    assert (of_python.bucket, of_python.tags, of_python.rules) == (of_file.bucket, of_file.tags, of_file.rules)
    with pytest.raises(InvalidSetting, match="did you mean bucket"):
        settings.fleet_of(bukket="x")


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidSetting, match="it is a file"):
        settings.read_fleet({"FLEET_HOME": str(tmp_path / "taken")}, tmp_path / "fleet.toml")


def test_one_of_some_words_is_told_with_the_words(tmp_path):
    (tmp_path / "fleet.toml").write_text("several_objects = true")
    with pytest.raises(InvalidSetting, match='"off" or "on"'):
        settings.read_fleet({}, tmp_path / "fleet.toml")


MISPLACED = {
    "a list below tags": ('[tags]\nteam = "cars"\nrule_keys = ["a"]\n', "tags.rule_keys", "[tags]"),
    "a number below tags": ("[tags]\nsweep_days = 3\n", "tags.sweep_days", "[tags]"),
    "a text below thing": ('[thing]\ntype = "car"\nbucket = "acme"\n', "thing.bucket", "[thing]"),
    "below a rule": ('[[rules]]\nkey = "a"\n[[rules]]\nkey = "b"\nhome = "acme"\n', "rules[1].home", "[rules[1]]"),
    "below a parameter": (
        '[parameters.Vin]\npattern = "[0-9]{3}"\nbucket = "acme"\n',
        "parameters.Vin.bucket",
        "[parameters.Vin]",
    ),
}


@pytest.mark.parametrize(("text", "place", "table"), MISPLACED.values(), ids=MISPLACED)
def test_a_setting_that_landed_in_a_table_is_named_with_the_table(text, place, table, tmp_path):
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(InvalidSetting) as refused:
        settings.read_fleet({}, tmp_path / "fleet.toml")
    assert refused.value.setting == place
    assert f"it stands below {table}" in str(refused.value)


def test_a_tag_that_may_be_a_misplaced_setting_is_warned_of_and_one_that_is_usual_is_not(tmp_path, caplog):
    (tmp_path / "fleet.toml").write_text(
        'start = "2026-11-01"\n[tags]\nhome = "there"\nenvironment = "dev"\nstart = "x"\n'
    )
    assert dict(settings.read_fleet({}, tmp_path / "fleet.toml").tags)["home"] == "there"
    [said] = [each.getMessage() for each in caplog.records]
    assert said.startswith("tags.home: it stands below [tags], and so is part of it")
