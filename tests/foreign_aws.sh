#!/usr/bin/env bash
# Runs tests/cloud/test_foreign_aws.py against moto's server on the loopback, and stops it.
set -euo pipefail
python=${1:?the Python of the virtual environment} moto=${2:?the Python of the environment that has moto}
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=$(mktemp)
MOTO_IAM_LOAD_MANAGED_POLICIES=true "$moto" tests/moto_server.py -H 127.0.0.1 -p "$port" >"$log" 2>&1 &
trap 'kill $! 2>/dev/null; rm -f "$log"' EXIT
"$python" - "$port" <<'PY'
import socket, sys, time

for _ in range(120):
    with socket.socket() as tried:
        if tried.connect_ex(("127.0.0.1", int(sys.argv[1]))) == 0:
            sys.exit()
    time.sleep(0.5)
sys.exit("moto's server did not answer within a minute")
PY
NO_PROXY=127.0.0.1,localhost FOREIGN_AWS="http://127.0.0.1:$port" \
  "$python" -m pytest -q -m foreign tests/cloud/test_foreign_aws.py
