#!/usr/bin/env bash
# The image and the compose file for real: built, brought up, asked for a summary and its attention, stopped.
# CONTAINER_CHECK names the tool that runs them: `TOOL [options] PROJECT_DIR [URL]`, see CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool=${CONTAINER_CHECK:-}
if [ ! -x "$tool" ]; then
  echo "CONTAINER_CHECK is ${tool:-not set}; it has to name a tool that can be run (see CONTRIBUTING.md):" \
    "make test-containers CONTAINER_CHECK=/path/to/container-check" >&2
  exit 1
fi

url=http://127.0.0.1:8000
post="curl -fsS -H 'Content-Type: application/json' -d @tests/containers/article.json"

"$tool" --config-only -f docker-compose.yml -f docker-compose.gpu.yml .
"$tool" \
  --exec "$post $url/summarize | python3 tests/containers/answered.py summary finish_reason model source" \
  --exec "$post $url/attention | python3 tests/containers/answered.py summary attention" \
  --exec 'container=$(docker ps -q) && test "$(docker exec "$container" id -u)" = 10001' \
  --exec '! docker exec "$(docker ps -q)" touch /srv/precis/written /model_store/written 2>/dev/null' \
  --exec '! grep -q avx512_vnni /proc/cpuinfo ||
    docker exec "$(docker ps -q)" python -c "from app.models.kernels import library; assert library()"' \
  --exec 'docker exec "$(docker ps -q)" python -c "import app.api.spans, transformers, sentencepiece"' \
  --exec 'docker exec -i "$(docker ps -q)" python - < tests/containers/listed.py' \
  --exec '! docker exec "$(docker ps -q)" python -c "import pip" 2>/dev/null' \
  --exec 'docker exec "$(docker ps -q)" sh -c "test \$(ulimit -c) = 0 && grep \" /tmp .*noexec.*size=65536k\" /proc/mounts"' \
  . "$url/readyz"

# Three replicas behind nginx, of which one is stopped and one killed under load, with the profile `monitoring`: Prometheus
# sees the service and answers every query of the board. Images that may not be at hand have stand-ins: of nginx another
# build, of Grafana something small, to prove what its container is given, may do and can reach.
standin() { echo "$(grep -oh "$1:.*" docker-compose.yml docker-compose.replicas.yml)=tests/containers/$2.Dockerfile"; }
grafana='container=$(docker ps -q --filter name=grafana) && docker exec "$container"'
nginx='docker exec "$(docker ps -q --filter name=nginx)"'
# With so few rows a replica runs each model once, not on every core of what may be a small machine.
PRECIS_MAX_ROWS=8 "$tool" -f docker-compose.yml -f docker-compose.replicas.yml --scale api=3 -p monitoring --timeout 300 \
  --standin "$(standin grafana/grafana grafana)" --standin "$(standin nginxinc/nginx-unprivileged nginx)" \
  --exec "python3 -m tests.monitoring.watched http://127.0.0.1:9090 $url" \
  --exec "$grafana cat /etc/grafana/provisioning/dashboards/precis.json /etc/grafana/provisioning/datasources/prometheus.yml > /dev/null" \
  --exec "$grafana touch /var/lib/grafana/written /tmp/written" \
  --exec "! { $grafana touch /etc/grafana/provisioning/dashboards/written /srv/written; } 2> /dev/null" \
  --exec "$grafana wget -q --spider http://prometheus:9090/-/ready" \
  --exec 'test "$(docker exec "$(docker ps -q --filter name=prometheus)" id -u)" = 65534' \
  --exec "python3 -m tests.containers.replicas $url" \
  --exec "test \"\$($nginx id -u)\" = 101 && ! $nginx touch /etc/nginx/written 2> /dev/null" \
  . http://127.0.0.1:3000/api/health
