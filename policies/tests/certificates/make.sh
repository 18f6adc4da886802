#!/bin/sh
# How the certificates of this folder were made: OpenSSL 3.0, run in an empty folder. Nobody trusts these keys outside of the tests.
set -e
touch index; echo 1000 > serial; echo 'unique_subject = no' > index.attr; mkdir -p new
cat > ca.cnf <<C
[ca]
default_ca = d
[d]
new_certs_dir = new
database = index
serial = serial
default_md = sha256
policy = p
copy_extensions = copy
default_startdate = 20200101000000Z
default_enddate = 21200101000000Z
unique_subject = no
[p]
organizationName = optional
commonName = optional
[req]
distinguished_name = dn
[dn]
C
key() { # name kind
  case $2 in
    p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key ;;
    p384) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out $1.key ;;
    rsa*) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:${2#rsa} -out $1.key ;;
  esac 2>/dev/null
}
cert() { # name kind subject issuer extensions [options of openssl ca]
  name=$1 kind=$2 subject=$3 issuer=$4 extensions=$5; shift 5
  key $name $kind
  openssl req -new -config ca.cnf -key $name.key -subj "$subject" -out $name.csr
  printf '%b' "$extensions" > $name.ext
  if [ $issuer = self ]; then by="-selfsign -keyfile $name.key"; else by="-cert $issuer.pem -keyfile $issuer.key"; fi
  openssl ca -batch -config ca.cnf -notext -startdate 20200101000000Z -enddate 21200101000000Z $by -extfile $name.ext -in $name.csr -out $name.pem "$@" 2>/dev/null
}
CA='basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n'
LEAF='keyUsage=critical,digitalSignature\nextendedKeyUsage=1.3.6.1.5.5.7.3.17\n'
cert root p256 '/O=Watari tests/CN=Root' self "$CA"
cert rsaroot rsa2048 '/O=Watari tests/CN=RSA Root' self "$CA"
cert double p256 '/O=Watari tests/CN=Root' self "$CA"
cert stranger p256 '/O=Somebody else/CN=Root' self "$CA"
cert middle p256 '/O=Watari tests/CN=Middle' root 'basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign\n'
cert lower p256 '/O=Watari tests/CN=Lower' middle "$CA"
cert mn p256 '/O=Watari tests/CN=mn' root "${LEAF}subjectAltName=DNS:mn.example,IP:2001:db8:1::abcd,email:mn@home.example\n"
cert mn384 p384 '/O=Watari tests/CN=mn' middle "${LEAF}subjectAltName=DNS:mn.example\n" -md sha384
cert ha rsa2048 '/O=Watari tests/CN=ha' rsaroot "${LEAF}subjectAltName=DNS:ha.example,IP:2001:db8:1::1\n"
cert hapss rsa2048 '/O=Watari tests/CN=ha' rsaroot "${LEAF}subjectAltName=DNS:ha.example\n" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
cert sha1 p256 '/O=Watari tests/CN=mn' rsaroot "${LEAF}subjectAltName=DNS:mn.example\n" -md sha1
cert short rsa1024 '/O=Watari tests/CN=mn' root "${LEAF}subjectAltName=DNS:mn.example\n"
cert below p256 '/O=Watari tests/CN=mn' mn "${LEAF}subjectAltName=DNS:mn.example\n"
cert deep p256 '/O=Watari tests/CN=mn' lower "${LEAF}subjectAltName=DNS:mn.example\n"
cert nosign p256 '/O=Watari tests/CN=No signer' root 'basicConstraints=critical,CA:true\nkeyUsage=critical,cRLSign\n'
cert undernosign p256 '/O=Watari tests/CN=mn' nosign "${LEAF}subjectAltName=DNS:mn.example\n"
cert cipher p256 '/O=Watari tests/CN=mn' root 'keyUsage=critical,keyAgreement\nsubjectAltName=DNS:mn.example\n'
cert web p256 '/O=Watari tests/CN=mn' root 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:mn.example\n'
cert bare p256 '/O=Watari tests/CN=mn' root 'subjectAltName=DNS:mn.example\n'
cert strange p256 '/O=Watari tests/CN=mn' root '1.2.3.4=critical,ASN1:UTF8String:what\nsubjectAltName=DNS:mn.example\n'
cert narrow p256 '/O=Watari tests/CN=Narrow' root 'basicConstraints=critical,CA:true\nnameConstraints=critical,permitted;DNS:example\n'
cert undernarrow p256 '/O=Watari tests/CN=mn' narrow "${LEAF}subjectAltName=DNS:mn.example\n"
cert wild p256 '/O=Watari tests/CN=*' root "${LEAF}subjectAltName=DNS:*.example,IP:2001:db8:1::abce,URI:ike://mn.example,dirName:dn\n[dn]\nCN=mn\n"
cert nameless p256 '/O=Watari tests/CN=mn.example' root "$LEAF"
cert west p256 '/O=Watari tests/CN=West' self "$CA"
cert east p256 '/O=Watari tests/CN=East' west "$CA"
cert crossed p256 '/O=Watari tests/CN=mn' west "${LEAF}subjectAltName=DNS:mn.example\n"
openssl ca -batch -config ca.cnf -notext -startdate 20200101000000Z -enddate 21200101000000Z -cert east.pem -keyfile east.key -extfile west.ext -in west.csr -out west.pem
openssl pkey -in mn.key -traditional -out mn.sec1.key
openssl ec -in mn.key -no_public -out mn.lonely.key 2>/dev/null
openssl ec -in crossed.key -no_public -out other.lonely.key 2>/dev/null
openssl rsa -in ha.key -traditional -out ha.pkcs1.key 2>/dev/null
openssl pkey -in mn.key -aes128 -passout pass:x -out mn.encrypted.key
