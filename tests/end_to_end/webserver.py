"""A Dagster webserver as the tests see it: by GraphQL, and with patience."""

import json
import time
import urllib.request

START_PATIENCE_S = 600
RUN_PATIENCE_S = 600
"""For a run, or a page that shows one. On two cores with twenty busy processes a run that makes the cloud side took 200 s."""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


class Webserver:
    def __init__(self, url, log):
        self.url, self.log = url, log

    def ask(self, query, **variables):
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["data"]

    def wait_until_loaded(self, *processes):
        query = "{workspaceOrError{...on Workspace{locationEntries{loadStatus locationOrLoadError{__typename}}}}}"
        give_up = time.monotonic() + START_PATIENCE_S
        while time.monotonic() < give_up:
            assert all(process.poll() is None for process in processes), self.log.read_text()
            try:
                entries = self.ask(query)["workspaceOrError"]["locationEntries"]
            except OSError:
                entries = []
            if entries and all(
                entry["loadStatus"] == "LOADED" and entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
                for entry in entries
            ):
                return
            time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def runs(self):
        """Return the runs that someone launched, newest first; those of schedules and sensors come when they come."""
        query = "{runsOrError{...on Runs{results{runId status jobName tags{key value}}}}}"
        runs = self.ask(query)["runsOrError"]["results"]
        return [
            run
            for run in runs
            if not {"dagster/schedule_name", "dagster/sensor_name"} & {tag["key"] for tag in run["tags"]}
        ]

    def finished_runs(self, count):
        """Wait until so many runs have ended, and return their statuses, newest first."""
        give_up = time.monotonic() + RUN_PATIENCE_S
        while time.monotonic() < give_up:
            statuses = [run["status"] for run in self.runs()]
            if len(statuses) >= count and ENDED.issuperset(statuses):
                return statuses
            time.sleep(1)
        raise AssertionError(self.log.read_text())

    def backfills(self):
        """Return the backfills that someone launched, newest first."""
        query = "{partitionBackfillsOrError{...on PartitionBackfills{results{status numPartitions}}}}"
        return self.ask(query)["partitionBackfillsOrError"]["results"]

    def began_backfill(self):
        """Wait some seconds for a backfill, and say whether there is one."""
        give_up = time.monotonic() + 30
        while not self.backfills() and time.monotonic() < give_up:
            time.sleep(1)
        return bool(self.backfills())

    def finished_backfill(self):
        """Wait until the backfill launched last has ended, and return it."""
        give_up = time.monotonic() + RUN_PATIENCE_S
        while time.monotonic() < give_up:
            backfills = self.backfills()
            if backfills and backfills[0]["status"].startswith(("COMPLETED", "FAILED")):
                return backfills[0]
            time.sleep(1)
        raise AssertionError(self.log.read_text())

    def check(self, asset, name):
        """Return what the last evaluation of an asset's check says."""
        query = """query($key: AssetKeyInput!, $name: String!) {assetCheckExecutions(assetKey: $key, checkName: $name, limit: 1) {
            evaluation {severity success}}}"""
        return self.ask(query, key={"path": asset.split("/")}, name=name)["assetCheckExecutions"][0]["evaluation"]

    def launch(self, job):
        """Launch a job and return its run's id."""
        selector = {"repositoryLocationName": "fleet_pipeline", "repositoryName": "__repository__", "pipelineName": job}
        mutation = """mutation($what: ExecutionParams!) {launchRun(executionParams: $what) {
            __typename ...on LaunchRunSuccess {run {runId}} ...on PythonError {message}}}"""
        answer = self.ask(mutation, what={"selector": selector, "runConfigData": {}})["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]
