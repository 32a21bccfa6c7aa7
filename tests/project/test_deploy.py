"""What `deploy/` describes, held against the page, against the names that Dagster's configurations ask for, and, where
`make chart` brings them, against Helm and the API schemas of Kubernetes.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/chart"
TASK = json.loads((ROOT / "deploy/task-definition.json").read_text())
CONTAINERS = {container["name"]: container for container in TASK["containerDefinitions"]}
PAGE = (ROOT / "docs/deploy.md").read_text()

VALUES = {
    "image": {"repository": "registry.example/fleet", "tag": "1"},
    "settings": {"FLEET_PROFILE": "aws", "FLEET_ACCOUNT": "123456789012", "FLEET_REGION": "eu-central-1"},
    "computeLogBucket": "logs-of-runs",
    "webserver": {"allowedHosts": ["dagster.example"]},
    "dask": {"enabled": True, "workers": 3},
}

with_helm = [
    pytest.mark.foreign,
    pytest.mark.skipif("HELM" not in os.environ, reason="Helm is not named: make chart brings it"),
]


def processes_of_the_page():
    """The commands of code server, webserver and daemon, as the page has them."""
    return [
        shlex.split(line) for line in re.findall(r"^ {3}((?:dagster|python -m).*--\S+ [\w.]+)$", PAGE, re.MULTILINE)
    ]


def asked_of_the_environment(name):
    """The variables that a configuration of `deploy/` takes from the environment."""
    return set(re.findall(r"\{env: (\w+)\}", (ROOT / "deploy" / name).read_text()))


def test_the_task_definition_is_one_by_the_services_own_model():
    shape = get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    report = ParamValidator().validate(TASK, shape)
    assert not report.has_errors(), report.generate_report()
    wrong = {**TASK, "containerDefinitions": [{"nome": "code"}]}
    assert ParamValidator().validate(wrong, shape).has_errors()


def test_the_task_runs_what_the_page_says_and_its_code_server_is_reached_by_its_neighbours_alone():
    code, webserver, daemon = processes_of_the_page()
    code[code.index("--host") + 1] = "127.0.0.1"
    said = {"code": code, "webserver": webserver, "daemon": daemon}
    assert {name: container["command"] for name, container in CONTAINERS.items()} == said


@pytest.mark.parametrize("name", list(CONTAINERS))
def test_each_container_of_the_task_has_every_variable_that_it_is_asked_for(name):
    given = {each["name"] for kind in ("environment", "secrets") for each in CONTAINERS[name][kind]}
    asked = asked_of_the_environment("dagster.aws.yaml")
    asked |= set() if name == "code" else asked_of_the_environment("workspace.yaml")
    assert asked <= given
    assert not any("PASSWORD" in each["name"] for each in CONTAINERS[name]["environment"])


def test_a_run_of_ecs_has_the_fleets_settings_because_the_daemon_has_them():
    def fleet_settings(name):
        return [each for each in CONTAINERS[name]["environment"] if each["name"].startswith("FLEET_")]

    assert fleet_settings("daemon") == fleet_settings("code") != []


def test_the_chart_runs_what_the_page_says_and_the_image_has_its_user():
    text = (CHART / "templates/processes.yaml").read_text()
    for command in processes_of_the_page():
        assert " ".join(json.dumps(word) for word in command) in text
    assert "useradd --system --uid 10001" in (ROOT / "Dockerfile").read_text()
    assert "runAsUser: 10001" in (CHART / "templates/_helpers.tpl").read_text()


def test_the_chart_gives_every_variable_that_its_configuration_asks_for():
    text = (CHART / "templates/settings.yaml").read_text()
    asked = asked_of_the_environment("dagster.kubernetes.yaml") | asked_of_the_environment("workspace.yaml")
    given = set(re.findall(r"^  ((?:DAGSTER|FLEET)_\w+):", text, re.MULTILINE))
    assert {name for name in asked - given if not name.startswith("DAGSTER_POSTGRES_")} == set()
    launcher = yaml.safe_load((ROOT / "deploy/dagster.kubernetes.yaml").read_text())["run_launcher"]["config"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert launcher["env_secrets"] == [values["postgresSecret"]]
    assert all(f"name: {name}" in text for name in launcher["env_config_maps"])


def rendered(folder, values, *options):
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    instance = f"instance={ROOT / 'deploy/dagster.kubernetes.yaml'}"
    command = [os.environ["HELM"], "template", "fleet", CHART, "-n", "fleets", "-f", folder / "values.yaml"]
    return subprocess.run([*command, "--set-file", instance, *options], capture_output=True, text=True, check=False)


class TestChart:
    pytestmark = with_helm

    @pytest.fixture(params=[True, False])
    def dask(self, request):
        return request.param

    @pytest.fixture
    def resources(self, dask, tmp_path):
        done = rendered(tmp_path, {**VALUES, "dask": {"enabled": dask, "workers": 3}})
        assert not done.returncode, done.stderr
        (tmp_path / "rendered.yaml").write_text(done.stdout)
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    def test_what_helm_makes_of_it_is_right_by_the_schemas_of_kubernetes(self, resources, tmp_path):
        lint = [os.environ["HELM"], "lint", "--strict", CHART, "-f", tmp_path / "values.yaml"]
        instance = f"instance={ROOT / 'deploy/dagster.kubernetes.yaml'}"
        assert not subprocess.run([*lint, "--set-file", instance], check=False).returncode
        validate = [os.environ["KUBERNETES_VALIDATE"], "--strict", tmp_path / "rendered.yaml"]
        assert not subprocess.run(validate, check=False).returncode
        names = [(each["kind"], each["metadata"]["name"]) for each in resources]
        assert len(names) == len(set(names)) > 10

    def test_every_name_that_a_part_uses_is_made_or_is_said_to_exist(self, resources, dask):
        made = {(each["kind"], each["metadata"]["name"]) for each in resources} | {("Secret", "fleet-postgres")}
        for pods in (each["spec"]["template"]["spec"] for each in resources if each["kind"] == "Deployment"):
            assert ("ServiceAccount", pods["serviceAccountName"]) in made
            (container,) = pods["containers"]
            for source in container["envFrom"]:
                ((kind, named),) = source.items()
                assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], named["name"]) in made
            assert {("ConfigMap", volume["configMap"]["name"]) for volume in pods["volumes"]} <= made
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
        settings = next(each for each in resources if each["metadata"]["name"] == "fleet-settings")["data"]
        assert ("Service", settings["DAGSTER_CODE_HOST"]) in made
        assert ("ServiceAccount", settings["DAGSTER_K8S_SERVICE_ACCOUNT"]) in made
        assert ("ConfigMap", settings["DAGSTER_K8S_INSTANCE_CONFIG_MAP"]) in made
        assert settings.get("FLEET_ENGINE") == ("dask://fleet-dask:8786" if dask else None)
        assert (("Service", "fleet-dask") in made) == dask

    def test_only_who_must_reaches_what_runs_what_it_is_sent(self, resources, dask):
        policies = {each["metadata"]["name"] for each in resources if each["kind"] == "NetworkPolicy"}
        assert policies == ({"fleet-code", "fleet-dask"} if dask else {"fleet-code"})

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"settings": {"FLEET_PROFILE": "aws"}}, "FLEET_ACCOUNT is required"),
            ({"settings": {**VALUES["settings"], "PATH": "/"}}, "PATH"),
            ({"image": {"repository": "", "tag": ""}}, "image"),
            ({"webserver": {"allowedHosts": ["*"]}}, "allowedHosts"),
            ({"dusk": {}}, "dusk"),
        ],
    )
    def test_wrong_values_are_refused_by_name(self, change, said, tmp_path):
        done = rendered(tmp_path, {**VALUES, **change})
        assert done.returncode
        assert said in done.stderr
