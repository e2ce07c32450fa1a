# The gateway: slim, not root, one volume; its root file system can be read-only. The digest is that of the base image's index, so
# both architectures are held to it, as all packages are to the hashes of deploy/requirements.txt.
ARG PYTHON_IMAGE=python:3.13.15-slim-bookworm@sha256:2325bb286ec344af3e5898cc224b5844e2707ac6e26b1632516fd3edc84a5e26
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY deploy ./deploy
RUN python -m venv /opt/otel-telemetry \
 && /opt/otel-telemetry/bin/pip install --no-cache-dir --require-hashes --requirement deploy/requirements.txt
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement deploy/build-requirements.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY otel_telemetry ./otel_telemetry
COPY processors ./processors
COPY exporters ./exporters
COPY examples ./examples
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/otel-telemetry/bin/pip install --no-cache-dir --no-deps /wheel/*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/otel-telemetry /opt/otel-telemetry
RUN useradd --system --uid 10001 --home-dir /data telemetry && install -d -o telemetry -m 0700 /data
USER 10001
WORKDIR /data
VOLUME /data
ENV PATH=/opt/otel-telemetry/bin:$PATH \
    OTEL_TELEMETRY_GATEWAY__HOST=0.0.0.0 \
    OTEL_TELEMETRY_GATEWAY__SPOOL_DIR=/data/spool \
    OTEL_TELEMETRY_REQUEST_LOG__URL=sqlite:////data/telemetry.db
EXPOSE 4317 4318
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD \
  ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4318/health', timeout=2)"]
ENTRYPOINT ["otel-telemetry"]
CMD ["serve"]
