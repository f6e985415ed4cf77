"""Both methods from end to end with nothing but curl, openssl and unzip on the device's side, and muster on the operator's."""
import os
import shutil
import subprocess

import pytest

from conftest import MUSTER

TOOLS = ["sh", "curl", "openssl", "unzip", "sed", "cat", "grep", "chmod", "sleep"]

PRELUDE = """
set -eu
umask 077
field() { sed -n 's/.*"'"$1"'": *"\\([^"]*\\)".*/\\1/p' "$2" | sed -n 1p; }
# request NAME METHOD PATH [curl's options]: the answer's body in NAME.out, its status on stdout.
request() {
    name=$1 method=$2 path=$3; shift 3
    curl -sS --noproxy '*' -X "$method" -o "$name.out" -w '%{http_code}' "$@" "$URL$path"
}
expect() { test "$1" = "$2" || { echo "expected $2, got $1: $(cat ./*.out)" >&2; exit 1; }; }
# What an operator does acts within a second.
refused_soon() {
    for i in 1 2 3 4 5 6 7 8; do
        test "$(request refused GET "$1" $DEVICE)" = 404 || break
        sleep 0.1
    done
    expect "$(request refused GET "$1" $DEVICE)" 403
}
ECUS='{"primary_ecu_serial":"p-1","ecus":[{"ecu_serial":"p-1","hardware_identifier":"qemu","clientKey":{"keytype":"unknown","keyval":{"public":""}}}]}'
"""

SHARED = PRELUDE + """
# The operator: an account for testing and a credentials.zip for the base image.
muster --data "$DATA" account create curl-shared --kind test --method shared --json > account.json
muster --data "$DATA" key create --account curl-shared --max-devices 1 -o credentials.zip --json > key.json
grep -q '"state": *"active"' key.json

# The image: what the zip holds.
unzip -q credentials.zip
URL=$(cat autoprov.url)
openssl pkcs12 -in autoprov_credentials.p12 -passin pass: -nodes -nocerts -out prov.key 2> /dev/null
openssl pkcs12 -in autoprov_credentials.p12 -passin pass: -nokeys -clcerts -out prov.pem 2> /dev/null
openssl pkcs12 -in autoprov_credentials.p12 -passin pass: -nokeys -cacerts -out ca.pem 2> /dev/null
openssl verify -CAfile server_ca.pem ca.pem > /dev/null

# The device: one request, and it has a certificate of its own.
expect "$(request enrol POST /devices --cert prov.pem --key prov.key --cacert ca.pem $CURL -H 'Content-Type: application/json' -d '{"deviceId":"curl-1","ttl":"36000"}')" 200
openssl pkcs12 -in enrol.out -passin pass: -nodes -nocerts -out device.key 2> /dev/null
openssl pkcs12 -in enrol.out -passin pass: -nokeys -clcerts -out device.pem 2> /dev/null
openssl pkcs12 -in enrol.out -passin pass: -nokeys -cacerts -out device-ca.pem 2> /dev/null
openssl x509 -in device.pem -noout -subject -nameopt RFC2253 | grep -q '^subject=CN=curl-1,OU=Devices,O=curl-shared$'
openssl x509 -in device.pem -noout -purpose | grep -q '^SSL server : No$'
openssl x509 -in device.pem -noout -checkend 315360000
test "$(openssl x509 -in device.pem -noout -pubkey)" = "$(openssl pkey -in device.key -pubout)"
DEVICE="--cert device.pem --key device.key --cacert device-ca.pem $CURL"
expect "$(request ecus POST /director/ecus $DEVICE -H 'Content-Type: application/json' -d "$ECUS")" 201
expect "$(request ecus POST /director/ecus $DEVICE -H 'Content-Type: application/json' -d "$ECUS")" 200
expect "$(request root GET /director/1.root.json $DEVICE)" 404
grep -q '"code":"not_found"' root.out
expect "$(request target GET /repo/targets/firmware.bin $DEVICE)" 404
test ! -s target.out

# Who has no certificate, or one that is not for this, is told so.
expect "$(request refused GET /director/1.root.json --cacert ca.pem $CURL)" 403
test "$(field code refused.out)" = certificate_required
expect "$(request refused POST /devices $DEVICE -d '{"deviceId":"curl-2"}')" 403
test "$(field code refused.out)" = enrol_with_device_certificate
expect "$(request refused GET /director/1.root.json --cert prov.pem --key prov.key --cacert ca.pem $CURL)" 403
test "$(field code refused.out)" = provisioning_key_only_enrols
expect "$(request refused POST /devices --cert prov.pem --key prov.key --cacert ca.pem $CURL -d '{"deviceId":"curl-1"}')" 409
test "$(field code refused.out)" = device_already_registered
expect "$(request refused POST /devices --cert prov.pem --key prov.key --cacert ca.pem $CURL -d '{"deviceId":"curl-2"}')" 403
test "$(field code refused.out)" = provisioning_key_exhausted

# A certificate that anybody can make gets nobody in.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout forger.key -out forger.pem -subj "/O=curl-shared/CN=Issuing CA" -days 9 2> /dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout forged.key -out forged.csr -subj /O=curl-shared/OU=Devices/CN=curl-1 2> /dev/null
openssl x509 -req -in forged.csr -CA forger.pem -CAkey forger.key -CAcreateserial -days 9 -out forged.pem 2> /dev/null
expect "$(request refused GET /director/1.root.json --cert forged.pem --key forged.key --cacert ca.pem $CURL)" 403
test "$(field code refused.out)" = certificate_untrusted

# The operator again: the device is there; it is revoked and is out.
muster --data "$DATA" device show curl-1 --account curl-shared --json > device.json
test "$(field state device.json)" = active
test "$(field method device.json)" = shared
muster --data "$DATA" device revoke curl-1 --account curl-shared --reason 'end of the test' --json > device.json
test "$(field state device.json)" = revoked
refused_soon /director/1.root.json
test "$(field code refused.out)" = device_revoked
"""

DEVICE = PRELUDE + """
# The customer's own fleet CA, with an intermediate.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -subj '/O=Fleet/CN=Fleet Root' -days 3650 2> /dev/null
openssl req -newkey rsa:2048 -nodes -keyout line.key -out line.csr -subj '/O=Fleet/CN=Line 1' 2> /dev/null
echo 'basicConstraints=critical,CA:true' > line.ext
openssl x509 -req -in line.csr -CA root.pem -CAkey root.key -CAcreateserial -extfile line.ext -days 1000 -out line.pem 2> /dev/null

# The operator: an account for production, and the proof that the root is ours.
muster --data "$DATA" account create curl-device --kind production --method device --json > account.json
URL=$(field gateway_url account.json)
muster --data "$DATA" root upload root.pem --account curl-device --json > root.json
ROOT=$(field id root.json)

# Without the proof nobody gets in.
openssl req -newkey rsa:2048 -nodes -keyout device.key -out device.csr -subj /C=DE/ST=Berlin/O=Fleet/CN=vin-0001 2> /dev/null
openssl x509 -req -in device.csr -CA root.pem -CAkey root.key -CAcreateserial -days 365 -out device.pem 2> /dev/null
DEVICE="--cert device.pem --key device.key --cacert $DATA/server-ca.pem $CURL"
expect "$(request refused POST /director/ecus $DEVICE -d "$ECUS")" 403
test "$(field code refused.out)" = root_unproved

openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout proof.key -out proof.csr -subj "/CN=$(field challenge root.json)" 2> /dev/null
openssl x509 -req -in proof.csr -CA root.pem -CAkey root.key -CAcreateserial -days 1 -out proof.pem 2> /dev/null
muster --data "$DATA" root prove "$ROOT" proof.pem --account curl-device --json > root.json
test "$(field state root.json)" = active

# The device, with the certificate that its factory gave it; first contact registers it.
expect "$(request ecus POST /director/ecus $DEVICE -H 'Content-Type: application/json' -d "$ECUS")" 201
expect "$(request ecus POST /director/ecus $DEVICE -H 'Content-Type: application/json' -d "$ECUS")" 200
expect "$(request root GET /director/1.root.json $DEVICE)" 404
muster --data "$DATA" device show vin-0001 --account curl-device --json > device.json
test "$(field state device.json)" = active
test "$(field method device.json)" = device
test "$(field root device.json)" = "$ROOT"

# Another one by way of the intermediate, which it sends along.
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout second.key -out second.csr -subj /CN=vin-0002 2> /dev/null
openssl x509 -req -in second.csr -CA line.pem -CAkey line.key -CAcreateserial -days 365 -out second.pem 2> /dev/null
expect "$(request refused GET /x --cert second.pem --key second.key --cacert "$DATA/server-ca.pem" $CURL)" 403
test "$(field code refused.out)" = certificate_untrusted
cat second.pem line.pem > second-chain.pem
expect "$(request second GET /x --cert second-chain.pem --key second.key --cacert "$DATA/server-ca.pem" $CURL)" 404

# The same ID with a key of its own, and an expired certificate, are refused with the reason.
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout clone.key -out clone.csr -subj /CN=vin-0001 2> /dev/null
openssl x509 -req -in clone.csr -CA root.pem -CAkey root.key -CAcreateserial -days 365 -out clone.pem 2> /dev/null
expect "$(request refused GET /x --cert clone.pem --key clone.key --cacert "$DATA/server-ca.pem" $CURL)" 403
test "$(field code refused.out)" = device_key_mismatch
openssl x509 -req -in clone.csr -CA root.pem -CAkey root.key -CAcreateserial -days -1 -out expired.pem 2> /dev/null
expect "$(request refused GET /x --cert expired.pem --key clone.key --cacert "$DATA/server-ca.pem" $CURL)" 403
test "$(field code refused.out)" = certificate_expired

# A provisioning key there is none in this account.
! muster --data "$DATA" key create --account curl-device -o no.zip 2> refused.out
grep -q '(method_not_enabled)' refused.out
test ! -e no.zip

# The operator revokes the root: nobody gets in under it, for good.
muster --data "$DATA" root revoke "$ROOT" --account curl-device --yes --json > root.json 2> revoke.txt
grep -q '2 devices' revoke.txt
refused_soon /x
test "$(field code refused.out)" = root_revoked
"""


SCRIPTS = {"shared": SHARED, "device": DEVICE}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """A PATH with these programs and no others."""
    path = tmp_path_factory.mktemp("tools")
    for tool in TOOLS:
        (path / tool).symlink_to(shutil.which(tool))
    (path / "muster").symlink_to(MUSTER.resolve())
    return path


def play(script, server, tools, directory, options):
    env = {"PATH": str(tools), "HOME": str(directory), "DATA": str(server.dir), "CURL": options, "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8")}
    done = subprocess.run([str(tools / "sh"), "-xc", script], cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.parametrize("name", ["shared", "device"])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_device_made_of_curl_and_openssl(server, tools, tmp_path, name, tls):
    options = {"1.2": "--tls-max 1.2", "1.3": "--tlsv1.3"}[tls]
    play(SCRIPTS[name].replace(f"curl-{name}", f"curl-{name}-{tls[2]}"), server, tools, tmp_path, options)
