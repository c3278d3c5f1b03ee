# Two stages: the first compiles and installs, the second holds only Python and the packages, this one among them.
# The model store is mounted at /model_store, never built in.

FROM python:3.11-slim-bookworm AS build
# For whoever takes packages from another index too, such as one with torch built for the CPU only.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# What compiles the int8 kernels.
# hadolint ignore=DL3008
RUN apt-get -q update \
 && apt-get -q -y install --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
# Only the dependencies, and what traces and shared limits need, so that a change of the code does not install torch again.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
      print(*project["dependencies"], *project["optional-dependencies"]["otel"], *project["optional-dependencies"]["redis"], sep="\n")' > requirements.txt \
 && /opt/venv/bin/pip install --quiet -c constraints.txt -r requirements.txt
# The container cannot write bytecode: it is made here, and never looked for again in the sources.
COPY README.md LICENSE ./
COPY app app
RUN /opt/venv/bin/pip install --quiet --no-compile --no-deps . \
 && { [ "$(uname -m)" != x86_64 ] || ls /opt/venv/lib/python3*/site-packages/app/models/kernels/_library*.so; } \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib/python3*/site-packages/app

FROM python:3.11-slim-bookworm
# OMP_WAIT_POLICY: threads that spin while they wait starve the other work of the machine.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PRECIS_HOST=0.0.0.0 \
    PRECIS_PORT=8000 \
    PRECIS_MODEL_STORE=/model_store
WORKDIR /srv/precis
COPY --from=build /opt/venv /opt/venv
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f'http://127.0.0.1:{os.environ[\"PRECIS_PORT\"]}/readyz', timeout=4)"]
CMD ["python", "-m", "app"]
