# Stands in for Grafana where its image cannot be had: answers the health check, and shows what the compose file gives it.
FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get -q update \
 && apt-get -q -y install --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /srv/api \
 && echo '{"database": "ok"}' > /srv/api/health
USER 472
CMD ["python", "-m", "http.server", "--directory", "/srv", "3000"]
