#!/bin/sh
# Makes the certificates of the TLS tests anew: one key, three self-signed certificates. Needs openssl.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$work/key.pem"
openssl pkcs8 -topk8 -nocrypt -in "$work/key.pem" -outform DER -out key.der
: > "$work/index"
cat > "$work/ca.cnf" <<END
[ca]
default_ca = all
[all]
database = $work/index
rand_serial = yes
new_certs_dir = $work
default_md = sha256
policy = any
[any]
commonName = supplied
[app]
subjectAltName = DNS:app.example
basicConstraints = critical,CA:FALSE
[other]
subjectAltName = DNS:other.example
basicConstraints = critical,CA:FALSE
END
make() { # file, names, first day, last day
    openssl req -new -key "$work/key.pem" -subj "/CN=$1" -out "$work/request.pem"
    openssl ca -batch -selfsign -config "$work/ca.cnf" -extensions "$2" -keyfile "$work/key.pem" -in "$work/request.pem" \
        -startdate "$3" -enddate "$4" -notext -out "$work/$1.pem"
    openssl x509 -in "$work/$1.pem" -outform DER -out "$1.der"
}
make good app 20200101000000Z 21200101000000Z
make other other 20200101000000Z 21200101000000Z
make expired app 20200101000000Z 20200201000000Z
