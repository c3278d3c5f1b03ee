# Three stages: the first compiles and installs, the second writes down what that is, the last holds only Python, the
# packages, this one among them, and the list.
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
RUN python -m venv --without-pip /opt/venv
# What traces, shared limits and checkpoints of Hugging Face need; whoever wants a smaller image leaves some out.
ARG PRECIS_EXTRAS="otel redis transformers"
# Only the dependencies, so that a change of the code does not install torch again.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import os, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
      extras = [project["optional-dependencies"][name] for name in os.environ["PRECIS_EXTRAS"].split()]; \
      print(*project["dependencies"], *sum(extras, []), sep="\n")' > requirements.txt \
 && pip --python /opt/venv/bin/python install --quiet -c constraints.txt -r requirements.txt
# The container cannot write bytecode: it is made here, and never looked for again in the sources.
COPY README.md LICENSE NOTICE ./
COPY app app
RUN pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps . \
 && { [ "$(uname -m)" != x86_64 ] || ls /opt/venv/lib/python3*/site-packages/app/models/kernels/_library*.so; } \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib/python3*/site-packages/app

# The Debian packages of this stage are those of the last one.
FROM python:3.11-slim-bookworm AS bill
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /bill
COPY constraints.txt ./
RUN python -m venv tools \
 && tools/bin/pip install --quiet -c constraints.txt cyclonedx-bom debsbom license-expression
COPY audit audit
COPY --from=build /opt/venv /opt/venv
RUN tools/bin/python -m audit sbom --image /opt/venv/bin/python sbom.json

FROM python:3.11-slim-bookworm
# Nothing is installed here any more.
RUN pip uninstall --yes --quiet --root-user-action ignore pip setuptools wheel
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
COPY --from=bill /bill/sbom.json /usr/share/precis/
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f'http://127.0.0.1:{os.environ[\"PRECIS_PORT\"]}/readyz', timeout=4)"]
CMD ["python", "-m", "app"]
