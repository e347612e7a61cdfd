# Build:  docker build -t mailferry .
# Run:    see docs/installation.md; the root file system may be read-only.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /source
COPY requirements requirements
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes -r requirements/build.txt \
    && python -m venv /opt/mailferry \
    && /opt/mailferry/bin/pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY daemon daemon
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation -w /wheel . \
    && /opt/mailferry/bin/pip install --no-index --no-deps /wheel/mailferry-*.whl \
    && /opt/mailferry/bin/pip uninstall -y pip

FROM python:3.13-slim-bookworm
ENV PATH=/opt/mailferry/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MAILFERRY_DAEMON__STATE_DIR=/var/lib/mailferry
COPY --from=build /opt/mailferry /opt/mailferry
# A number, so that an orchestrator can see that it is not root.
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/mailferry && install -d -m 0755 /etc/mailferry
USER 10001:10001
VOLUME /var/lib/mailferry
WORKDIR /var/lib/mailferry
# No shell is needed. A server that answers 503, or not at all, raises, and Python exits with 1.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9465/healthz', timeout=5)"]
ENTRYPOINT ["mailferry"]
CMD ["run"]
