# Build:  docker build -t mailferry .
# Run:    see docs/container.md; the root file system may be read-only.
#
# Another base with Python 3.11 or later and a C library of its kind will do:
#   docker build --build-arg BASE=python:3.12-slim-bookworm -t mailferry .
ARG BASE=python:3.13-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /source
# First what changes seldom: every package, held to its hash.
COPY requirements requirements
RUN python3 -m venv /build \
    && /build/bin/pip install --require-hashes -r requirements/build.txt \
    && python3 -m venv /opt/mailferry \
    && /opt/mailferry/bin/pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY daemon daemon
# Without the network: what is built here comes from the source alone.
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation -w /wheel . \
    && /opt/mailferry/bin/pip install --no-index --no-deps /wheel/mailferry-*.whl \
    && /opt/mailferry/bin/pip uninstall -y pip setuptools \
    && install -d -m 0700 -o 10001 -g 10001 /state/mailferry

# hadolint ignore=DL3006
FROM ${BASE}
ARG REVISION=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="mailferry" \
      org.opencontainers.image.description="Ferries mail from POP3 maildrops to SMTP: scheduled, remembered, watched" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/container.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Bytecode was compiled at the build, and the root file system may be read-only.
ENV PATH=/opt/mailferry/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MAILFERRY_DAEMON__STATE_DIR=/var/lib/mailferry
COPY --from=build /opt/mailferry /opt/mailferry
COPY --from=build --chown=10001:10001 /state/mailferry /var/lib/mailferry
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /var/lib/mailferry
WORKDIR /var/lib/mailferry
EXPOSE 9465
# Exec form all over: no shell is needed, and signals reach the daemon itself, which knows how to be process 1.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s CMD ["mailferry", "healthcheck"]
ENTRYPOINT ["mailferry"]
CMD ["run"]
