#!/usr/bin/env bash
# Writes deploy/docker/secrets.env with random secrets, unless it is there. Nothing has a default secret.
set -euo pipefail
file=$(dirname "$0")/secrets.env
[[ -e $file ]] && { echo "$file is there already"; exit 0; }
umask 077
# They begin with a letter: nats-server reads what begins with a digit in a variable as a number.
secret() { printf 's%s' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; }
cat >"$file" <<END
COSMOP_NATS_USER=cosmop
COSMOP_NATS_PASSWORD=$(secret)
COSMOP_S3_ACCESS_KEY=$(secret)
COSMOP_S3_SECRET_KEY=$(secret)
END
echo "$file is written"
