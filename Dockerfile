# The mirror as an image. `make image` looks up the digest of the base, so that it is known exactly
# what was built upon, and builds. conf/pypy/Dockerfile is the same on PyPy.
#
#   docker run --read-only --tmpfs /tmp -p 8080:8080 ghmirror
#
# Options come from /etc/ghmirror/ghmirror.ini (mount another one) and the environment. The admin
# port is for the container alone until [server] admin_listen says tcp:8081.
ARG BASE=docker.io/library/python:3.13.12-slim-trixie

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# What builds stays apart from what is built; only wheels are taken, so nothing is compiled, and
# only those whose hashes are known.
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --no-compile --only-binary=:all: \
        --require-hashes -r requirements-build.lock \
    && python3 -m venv --without-pip /opt/ghmirror \
    && /opt/build/bin/pip --python /opt/ghmirror/bin/python install --no-cache-dir \
        --only-binary=:all: --require-hashes -r requirements.lock
COPY setup.cfg pyproject.toml README.rst LICENSE ./
COPY ghmirror_tw ghmirror_tw
COPY twisted twisted
# twistd looks plugins up in a file that it could not write later.
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir=/src/dist . \
    && /opt/build/bin/pip --python /opt/ghmirror/bin/python install --no-cache-dir --no-deps \
        --no-index /src/dist/*.whl \
    && /opt/ghmirror/bin/python -c \
        "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))" \
    && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-format=JSON \
        --output-file=/opt/ghmirror/sbom.cdx.json /opt/ghmirror/bin/python

FROM ${BASE}
LABEL org.opencontainers.image.title="ghmirror" \
    org.opencontainers.image.description="A caching reverse proxy for the GitHub API" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 ghmirror \
    && useradd --system --uid 10001 --gid ghmirror --home-dir /var/lib/ghmirror \
        --shell /usr/sbin/nologin ghmirror \
    && install -d -o ghmirror -g ghmirror -m 0700 /var/lib/ghmirror
COPY --from=build /opt/ghmirror /opt/ghmirror
COPY conf/ghmirror.ini /etc/ghmirror/ghmirror.ini
ENV PATH=/opt/ghmirror/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_URL=http://127.0.0.1:8080/healthz
USER 10001:10001
WORKDIR /var/lib/ghmirror
# for snapshots: [snapshot] target = file:///var/lib/ghmirror
VOLUME /var/lib/ghmirror
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['HEALTH_URL'], timeout=4)"]
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "ghmirror"]
CMD ["--config", "/etc/ghmirror/ghmirror.ini"]
