#!/usr/bin/env bash
# Runs tests/lake/test_foreign_s3.py against moto's server and against Ceph's RGW behind nginx with TLS, all on the loopback. Needs Debian and root.
# Installs what is missing; stops what it started, and removes the folder in which all of it lives.
set -euo pipefail
python=${1:?the Python of the virtual environment}
lacking=()
for package in ceph-mon ceph-osd radosgw nginx-light openssl curl; do
  dpkg -s "$package" >/dev/null 2>&1 || lacking+=("$package")
done
command -v nginx >/dev/null && lacking=("${lacking[@]/nginx-light/}")
if [ -n "${lacking[*]// /}" ]; then
  apt-get -q update >/dev/null
  # shellcheck disable=SC2068 (an empty word is no package)
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends ${lacking[@]} >/dev/null
fi

home=$(mktemp -d)
started=()
stop() {
  for pid in "${started[@]}" $(cat "$home"/run/*.pid 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
  sleep 2
  rm -rf "$home"
}
trap stop EXIT
free() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_up() { for _ in $(seq 60); do curl -s -o /dev/null "$@" && return; sleep 1; done; echo "no answer: $*" >&2; exit 1; }

export AWS_ACCESS_KEY_ID=123456789012 AWS_SECRET_ACCESS_KEY=secret NO_PROXY=127.0.0.1,localhost
suite() { # name, address, objects, tests
  FOREIGN_S3=$1 AWS_ENDPOINT_URL_S3=$2 FOREIGN_OBJECTS=$3 "$python" -m pytest -q -s -m foreign tests/lake/test_foreign_s3.py
}

# moto, in an environment of its own: Flask is of no use to anything else here
"$python" -m venv "$home/moto"
"$home/moto/bin/pip" install --quiet --disable-pip-version-check moto flask flask-cors
port=$(free)
"$home/moto/bin/moto_server" -H 127.0.0.1 -p "$port" >"$home/moto.log" 2>&1 &
started+=($!)
until_up "http://127.0.0.1:$port/"
suite moto "http://127.0.0.1:$port" 300
kill "${started[0]}"

# Ceph: one monitor, one OSD in memory, one gateway
mon=$(free) rgw=$(free) tls=$(free) fsid=$(cat /proc/sys/kernel/random/uuid) osd=$(cat /proc/sys/kernel/random/uuid)
mkdir -p "$home"/{mon,osd,run,log,rgw}
export CEPH_CONF=$home/ceph.conf
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon/0]
mon initial members = a
public network = 127.0.0.0/8
keyring = $home/keyring
run dir = $home/run
log file = $home/log/\$name.log
admin socket = $home/run/\$name.asok
pid file = $home/run/\$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
auth allow insecure global id reclaim = false
ms bind msgr1 = false
[mon.a]
mon data = $home/mon
mon data avail crit = 1
mon data avail warn = 2
[osd.0]
osd data = $home/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$rgw
rgw data = $home/rgw
CONF
ceph-authtool "$home/keyring" -C --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool "$home/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
ceph-authtool "$home/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
ceph-authtool "$home/keyring" --gen-key -n client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
monmaptool --create --addv a "[v2:127.0.0.1:$mon]" --fsid "$fsid" "$home/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$home/monmap" --keyring "$home/keyring"
ceph-mon -i a
ceph osd new "$osd" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$osd" 2>/dev/null
ceph-osd -i 0 2>/dev/null
ceph osd crush add osd.0 1.0 root=default host=here 2>/dev/null
radosgw -n client.rgw
until_up "http://127.0.0.1:$rgw/"
radosgw-admin user create --uid fleet --display-name fleet --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" >/dev/null 2>&1

# TLS in front, by an authority that nobody else knows
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout "$home/ca.key" -out "$home/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout "$home/tls.key" -out "$home/tls.csr" 2>/dev/null
openssl x509 -req -in "$home/tls.csr" -CA "$home/ca.pem" -CAkey "$home/ca.key" -CAcreateserial -days 2 \
  -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$home/tls.pem" 2>/dev/null
cat >"$home/nginx.conf" <<CONF
user root;
pid $home/run/nginx.pid;
error_log $home/log/nginx.log;
events {}
http {
  access_log off;
  client_body_temp_path $home/run/body;
  proxy_temp_path $home/run/proxy;
  client_max_body_size 0;
  server {
    listen 127.0.0.1:$tls ssl;
    ssl_certificate $home/tls.pem;
    ssl_certificate_key $home/tls.key;
    location / {
      proxy_pass http://127.0.0.1:$rgw;
      proxy_set_header Host \$http_host;
      proxy_http_version 1.1;
    }
  }
}
CONF
nginx -c "$home/nginx.conf"
export AWS_CA_BUNDLE=$home/ca.pem
# For the tests' own calls: over TLS botocore sends checksums as trailers, which this Ceph takes for a part of the body
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required
until_up --cacert "$AWS_CA_BUNDLE" "https://localhost:$tls/"
suite "Ceph RGW" "https://localhost:$tls" "${FOREIGN_OBJECTS:-2500}"
