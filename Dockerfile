# The gateway: slim, not root, one volume.
FROM python:3.13.15-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY otel_telemetry ./otel_telemetry
COPY processors ./processors
COPY exporters ./exporters
COPY examples ./examples
COPY deploy ./deploy
RUN python -m venv /opt/otel-telemetry \
 && /opt/otel-telemetry/bin/pip install --no-cache-dir --constraint constraints.txt '.[postgres,redis]'

FROM python:3.13.15-slim-bookworm
COPY --from=build /opt/otel-telemetry /opt/otel-telemetry
RUN useradd --system --uid 10001 --home-dir /data telemetry && install -d -o telemetry -m 0700 /data
USER telemetry
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
