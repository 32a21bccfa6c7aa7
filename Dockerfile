# One image for the code server, the webserver, the daemon and every run: they must agree about the code.
# It holds no settings and no credentials; docs/deploy.md says what each process is given.
# A tag moves. For images that can be made again, name the digest that was tested:
# docker build --build-arg BASE=python:3.11-slim-bookworm@sha256:<digest>
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 DAGSTER_HOME=/opt/dagster DAGSTER_GRPC_TIMEOUT_SECONDS=300
WORKDIR /opt/fleet

COPY deploy/requirements.lock deploy/requirements.lock
RUN pip install --require-hashes --only-binary :all: -r deploy/requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY fleet_pipeline fleet_pipeline
COPY lambda lambda
RUN pip install --no-deps --no-build-isolation . && fleet --version

COPY deploy/workspace.yaml /opt/dagster/workspace.yaml
ARG DAGSTER_CONFIGURATION=aws
COPY deploy/dagster.${DAGSTER_CONFIGURATION}.yaml /opt/dagster/dagster.yaml

RUN useradd --system --uid 10001 --home-dir /opt/dagster fleet && chown -R fleet /opt/dagster
USER fleet
WORKDIR /opt/dagster

EXPOSE 3000 4000
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--module-name", "fleet_pipeline.definitions"]
