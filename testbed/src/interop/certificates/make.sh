#!/bin/sh
# How the certificates of this folder were made: OpenSSL 3.0, run in an empty folder. Nobody trusts these keys outside of the test bed.
set -e
touch index; echo 2000 > serial; mkdir -p new
cat > ca.cnf <<C
[ca]
default_ca = d
[d]
new_certs_dir = new
database = index
serial = serial
default_md = sha256
policy = p
unique_subject = no
[p]
organizationName = optional
commonName = optional
[req]
distinguished_name = dn
[dn]
C
cert() { # name kind issuer extensions
  case $2 in
    p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key ;;
    rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $1.key ;;
  esac 2>/dev/null
  openssl req -new -config ca.cnf -key $1.key -subj "/O=Watari/CN=$1" -out $1.csr
  printf '%b' "$4" > $1.ext
  if [ $3 = self ]; then by="-selfsign -keyfile $1.key"; else by="-cert $3.pem -keyfile $3.key"; fi
  openssl ca -batch -config ca.cnf -notext -startdate 20200101000000Z -enddate 21200101000000Z $by -extfile $1.ext -in $1.csr -out $1.pem 2>/dev/null
}
CA='basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n'
LEAF='keyUsage=critical,digitalSignature\n'
cert root p256 self "$CA"
cert middle p256 root "$CA"
cert us-ecdsa p256 middle "${LEAF}subjectAltName=IP:2001:db8::1,DNS:us.example\n"
cert us-rsa rsa root "${LEAF}subjectAltName=IP:2001:db8::1,DNS:us.example\n"
cert peer-ecdsa p256 root "${LEAF}subjectAltName=IP:2001:db8::2,DNS:peer.example\n"
cert peer-rsa rsa root "${LEAF}subjectAltName=IP:2001:db8::2,DNS:peer.example\n"
cat us-ecdsa.pem middle.pem > us-ecdsa.chain && mv us-ecdsa.chain us-ecdsa.pem
rm -rf new index* serial* *.csr *.ext ca.cnf middle.key root.key
