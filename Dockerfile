# The gateway's image. Nothing of the build (compiler, pip's cache, hatchling, the sources) reaches the final stage.
#
# The base is pinned where the image is built for use: PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:<digest>.
# deploy/README.md says how to look the digest up; deploy/compose.yaml refuses to build without it. Any Python from
# 3.11 on will do, if the same one is given to both stages.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# Two environments: one to build with, and the one that is shipped, which has no pip of its own.
RUN ["python3", "-m", "venv", "/build"]
RUN ["python3", "-m", "venv", "--without-pip", "/opt/pointsman"]
COPY deploy/requirements/build.txt deploy/requirements/serve.txt deploy/requirements/
# The optional secret `pip_conf` is a pip configuration file (a mirror, a certificate bundle). A secret is mounted for
# one command only, so that neither addresses nor credentials stay in a layer.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    /build/bin/pip install --require-hashes --no-deps -r deploy/requirements/build.txt
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    /build/bin/pip --python /opt/pointsman/bin/python install --require-hashes --no-deps --only-binary :all: \
    -r deploy/requirements/serve.txt
COPY pyproject.toml README.md LICENSE NOTICE hatch_build.py package.json package-lock.json ./
COPY gateway gateway
COPY router router
# The dashboard's browser libraries come with `gateway` where they were fetched before, else from npm by their hashes;
# the optional secret `npmrc` is npm's configuration file.
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc \
    /build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/pointsman/bin/python install --no-deps --no-index /wheels/pointsman-*.whl

FROM ${PYTHON_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pointsman" \
      org.opencontainers.image.description="A serving gateway that sends every prompt to the expert that answers it best" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/pointsman /opt/pointsman
# In a container every address but loopback is "outside", so the host is set here; who may come in is still for the
# configuration to say, and `serve` refuses to start while it does not.
ENV PATH=/opt/pointsman/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POINTSMAN_CONFIG=/etc/pointsman/experts.yaml \
    POINTSMAN_HOST=0.0.0.0 \
    POINTSMAN_PORT=8080
# A number, because Kubernetes' runAsNonRoot cannot look names up.
USER 10001:10001
EXPOSE 8080
# Live, not ready: a gateway that waits for its experts' models to load is healthy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python3", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['POINTSMAN_PORT']), timeout=2); c.request('GET', '/health/live'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["pointsman"]
CMD ["serve"]
