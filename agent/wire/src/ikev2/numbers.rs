//! Every number of the IKEv2 registries that has a name, each in one table (RFC 7296 section 3 and its extensions).
//! Invariant: a number that is not listed is carried unchanged and shown as `unknown(n)`.

use crate::codes::codes;

codes! {
    /// What an exchange is for (RFC 7296 section 3.1).
    ExchangeType(u8) {
        IKE_SA_INIT = 34 "IKE_SA_INIT",
        IKE_AUTH = 35 "IKE_AUTH",
        CREATE_CHILD_SA = 36 "CREATE_CHILD_SA",
        INFORMATIONAL = 37 "INFORMATIONAL",
        IKE_SESSION_RESUME = 38 "IKE_SESSION_RESUME",
        GSA_AUTH = 39 "GSA_AUTH",
        GSA_REGISTRATION = 40 "GSA_REGISTRATION",
        GSA_REKEY = 41 "GSA_REKEY",
        IKE_INTERMEDIATE = 43 "IKE_INTERMEDIATE",
        IKE_FOLLOWUP_KE = 44 "IKE_FOLLOWUP_KE",
    }

    /// What a payload holds (RFC 7296 section 3.2).
    PayloadType(u8) {
        NONE = 0 "none",
        SA = 33 "SA",
        KE = 34 "KE",
        IDI = 35 "IDi",
        IDR = 36 "IDr",
        CERT = 37 "CERT",
        CERTREQ = 38 "CERTREQ",
        AUTH = 39 "AUTH",
        NONCE = 40 "Nonce",
        NOTIFY = 41 "N",
        DELETE = 42 "D",
        VENDOR = 43 "V",
        TSI = 44 "TSi",
        TSR = 45 "TSr",
        SK = 46 "SK",
        CP = 47 "CP",
        EAP = 48 "EAP",
        GSPM = 49 "GSPM",
        IDG = 50 "IDg",
        GSA = 51 "GSA",
        KD = 52 "KD",
        SKF = 53 "SKF",
        PS = 54 "PS",
    }

    /// Which protocol a proposal, a notify or a delete is about (RFC 7296 section 3.3.1).
    ProtocolId(u8) {
        NONE = 0 "none",
        IKE = 1 "IKE",
        AH = 2 "AH",
        ESP = 3 "ESP",
        FC_ESP_HEADER = 4 "FC_ESP_HEADER",
        FC_CT_AUTHENTICATION = 5 "FC_CT_AUTHENTICATION",
    }

    /// What a transform chooses (RFC 7296 section 3.3.2, RFC 9370 section 2.2).
    TransformType(u8) {
        ENCR = 1 "ENCR",
        PRF = 2 "PRF",
        INTEG = 3 "INTEG",
        KE = 4 "KE",
        ESN = 5 "ESN",
        ADDKE1 = 6 "ADDKE1",
        ADDKE2 = 7 "ADDKE2",
        ADDKE3 = 8 "ADDKE3",
        ADDKE4 = 9 "ADDKE4",
        ADDKE5 = 10 "ADDKE5",
        ADDKE6 = 11 "ADDKE6",
        ADDKE7 = 12 "ADDKE7",
    }

    /// Encryption algorithms (transform type 1).
    EncryptionId(u16) {
        DES_IV64 = 1 "DES_IV64",
        DES = 2 "DES",
        TRIPLE_DES = 3 "3DES",
        RC5 = 4 "RC5",
        IDEA = 5 "IDEA",
        CAST = 6 "CAST",
        BLOWFISH = 7 "BLOWFISH",
        TRIPLE_IDEA = 8 "3IDEA",
        DES_IV32 = 9 "DES_IV32",
        NULL = 11 "NULL",
        AES_CBC = 12 "AES_CBC",
        AES_CTR = 13 "AES_CTR",
        AES_CCM_8 = 14 "AES_CCM_8",
        AES_CCM_12 = 15 "AES_CCM_12",
        AES_CCM_16 = 16 "AES_CCM_16",
        AES_GCM_8 = 18 "AES_GCM_8",
        AES_GCM_12 = 19 "AES_GCM_12",
        AES_GCM_16 = 20 "AES_GCM_16",
        NULL_AUTH_AES_GMAC = 21 "NULL_AUTH_AES_GMAC",
        CAMELLIA_CBC = 23 "CAMELLIA_CBC",
        CAMELLIA_CTR = 24 "CAMELLIA_CTR",
        CAMELLIA_CCM_8 = 25 "CAMELLIA_CCM_8",
        CAMELLIA_CCM_12 = 26 "CAMELLIA_CCM_12",
        CAMELLIA_CCM_16 = 27 "CAMELLIA_CCM_16",
        CHACHA20_POLY1305 = 28 "CHACHA20_POLY1305",
        AES_CCM_8_IIV = 29 "AES_CCM_8_IIV",
        AES_GCM_16_IIV = 30 "AES_GCM_16_IIV",
        CHACHA20_POLY1305_IIV = 31 "CHACHA20_POLY1305_IIV",
    }

    /// Pseudorandom functions (transform type 2).
    PrfId(u16) {
        HMAC_MD5 = 1 "HMAC_MD5",
        HMAC_SHA1 = 2 "HMAC_SHA1",
        HMAC_TIGER = 3 "HMAC_TIGER",
        AES128_XCBC = 4 "AES128_XCBC",
        HMAC_SHA2_256 = 5 "HMAC_SHA2_256",
        HMAC_SHA2_384 = 6 "HMAC_SHA2_384",
        HMAC_SHA2_512 = 7 "HMAC_SHA2_512",
        AES128_CMAC = 8 "AES128_CMAC",
    }

    /// Integrity algorithms (transform type 3).
    IntegrityId(u16) {
        NONE = 0 "NONE",
        HMAC_MD5_96 = 1 "HMAC_MD5_96",
        HMAC_SHA1_96 = 2 "HMAC_SHA1_96",
        DES_MAC = 3 "DES_MAC",
        KPDK_MD5 = 4 "KPDK_MD5",
        AES_XCBC_96 = 5 "AES_XCBC_96",
        HMAC_MD5_128 = 6 "HMAC_MD5_128",
        HMAC_SHA1_160 = 7 "HMAC_SHA1_160",
        AES_CMAC_96 = 8 "AES_CMAC_96",
        AES_128_GMAC = 9 "AES_128_GMAC",
        AES_192_GMAC = 10 "AES_192_GMAC",
        AES_256_GMAC = 11 "AES_256_GMAC",
        HMAC_SHA2_256_128 = 12 "HMAC_SHA2_256_128",
        HMAC_SHA2_384_192 = 13 "HMAC_SHA2_384_192",
        HMAC_SHA2_512_256 = 14 "HMAC_SHA2_512_256",
    }

    /// Key exchange methods, also called Diffie-Hellman groups (transform types 4 and 6 to 12).
    KeyExchangeId(u16) {
        NONE = 0 "NONE",
        MODP768 = 1 "MODP768",
        MODP1024 = 2 "MODP1024",
        MODP1536 = 5 "MODP1536",
        MODP2048 = 14 "MODP2048",
        MODP3072 = 15 "MODP3072",
        MODP4096 = 16 "MODP4096",
        MODP6144 = 17 "MODP6144",
        MODP8192 = 18 "MODP8192",
        ECP256 = 19 "ECP256",
        ECP384 = 20 "ECP384",
        ECP521 = 21 "ECP521",
        MODP1024_160 = 22 "MODP1024_160",
        MODP2048_224 = 23 "MODP2048_224",
        MODP2048_256 = 24 "MODP2048_256",
        ECP192 = 25 "ECP192",
        ECP224 = 26 "ECP224",
        BRAINPOOL224 = 27 "BRAINPOOL_P224R1",
        BRAINPOOL256 = 28 "BRAINPOOL_P256R1",
        BRAINPOOL384 = 29 "BRAINPOOL_P384R1",
        BRAINPOOL512 = 30 "BRAINPOOL_P512R1",
        CURVE25519 = 31 "CURVE25519",
        CURVE448 = 32 "CURVE448",
        GOST_256 = 33 "GOST3410_2012_256",
        GOST_512 = 34 "GOST3410_2012_512",
        ML_KEM_512 = 35 "ML_KEM_512",
        ML_KEM_768 = 36 "ML_KEM_768",
        ML_KEM_1024 = 37 "ML_KEM_1024",
    }

    /// Extended sequence numbers (transform type 5).
    SequenceNumbersId(u16) {
        SHORT = 0 "32_BIT",
        EXTENDED = 1 "ESN",
    }

    /// Attribute types of a transform (RFC 7296 section 3.3.5).
    AttributeType(u16) {
        KEY_LENGTH = 14 "KEY_LENGTH",
    }

    /// What an identity is made of (RFC 7296 section 3.5).
    IdType(u8) {
        IPV4_ADDR = 1 "ID_IPV4_ADDR",
        FQDN = 2 "ID_FQDN",
        RFC822_ADDR = 3 "ID_RFC822_ADDR",
        IPV6_ADDR = 5 "ID_IPV6_ADDR",
        DER_ASN1_DN = 9 "ID_DER_ASN1_DN",
        DER_ASN1_GN = 10 "ID_DER_ASN1_GN",
        KEY_ID = 11 "ID_KEY_ID",
        FC_NAME = 12 "ID_FC_NAME",
        NULL = 13 "ID_NULL",
    }

    /// What a certificate payload holds (RFC 7296 section 3.6).
    CertEncoding(u8) {
        PKCS7 = 1 "PKCS7_X509",
        PGP = 2 "PGP",
        DNS_SIGNED_KEY = 3 "DNS_SIGNED_KEY",
        X509_SIGNATURE = 4 "X509_SIGNATURE",
        KERBEROS_TOKEN = 6 "KERBEROS_TOKEN",
        CRL = 7 "CRL",
        ARL = 8 "ARL",
        SPKI = 9 "SPKI",
        X509_ATTRIBUTE = 10 "X509_ATTRIBUTE",
        RAW_RSA_KEY = 11 "RAW_RSA_KEY",
        HASH_AND_URL_X509 = 12 "HASH_AND_URL_X509",
        HASH_AND_URL_BUNDLE = 13 "HASH_AND_URL_BUNDLE",
        OCSP_CONTENT = 14 "OCSP_CONTENT",
        RAW_PUBLIC_KEY = 15 "RAW_PUBLIC_KEY",
    }

    /// How a peer proves its identity (RFC 7296 section 3.8, RFC 7427, RFC 7619).
    AuthMethod(u8) {
        RSA_SIGNATURE = 1 "RSA_SIGNATURE",
        SHARED_KEY = 2 "SHARED_KEY",
        DSS_SIGNATURE = 3 "DSS_SIGNATURE",
        ECDSA_SHA256_P256 = 9 "ECDSA_SHA256_P256",
        ECDSA_SHA384_P384 = 10 "ECDSA_SHA384_P384",
        ECDSA_SHA512_P521 = 11 "ECDSA_SHA512_P521",
        SECURE_PASSWORD = 12 "SECURE_PASSWORD",
        NULL = 13 "NULL",
        DIGITAL_SIGNATURE = 14 "DIGITAL_SIGNATURE",
    }

    /// What a notify reports (RFC 7296 section 3.10.1); below 16384 an error, from there on a status.
    NotifyType(u16) {
        UNSUPPORTED_CRITICAL_PAYLOAD = 1 "UNSUPPORTED_CRITICAL_PAYLOAD",
        INVALID_IKE_SPI = 4 "INVALID_IKE_SPI",
        INVALID_MAJOR_VERSION = 5 "INVALID_MAJOR_VERSION",
        INVALID_SYNTAX = 7 "INVALID_SYNTAX",
        INVALID_MESSAGE_ID = 9 "INVALID_MESSAGE_ID",
        INVALID_SPI = 11 "INVALID_SPI",
        NO_PROPOSAL_CHOSEN = 14 "NO_PROPOSAL_CHOSEN",
        INVALID_KE_PAYLOAD = 17 "INVALID_KE_PAYLOAD",
        AUTHENTICATION_FAILED = 24 "AUTHENTICATION_FAILED",
        SINGLE_PAIR_REQUIRED = 34 "SINGLE_PAIR_REQUIRED",
        NO_ADDITIONAL_SAS = 35 "NO_ADDITIONAL_SAS",
        INTERNAL_ADDRESS_FAILURE = 36 "INTERNAL_ADDRESS_FAILURE",
        FAILED_CP_REQUIRED = 37 "FAILED_CP_REQUIRED",
        TS_UNACCEPTABLE = 38 "TS_UNACCEPTABLE",
        INVALID_SELECTORS = 39 "INVALID_SELECTORS",
        UNACCEPTABLE_ADDRESSES = 40 "UNACCEPTABLE_ADDRESSES",
        UNEXPECTED_NAT_DETECTED = 41 "UNEXPECTED_NAT_DETECTED",
        USE_ASSIGNED_HOA = 42 "USE_ASSIGNED_HoA",
        TEMPORARY_FAILURE = 43 "TEMPORARY_FAILURE",
        CHILD_SA_NOT_FOUND = 44 "CHILD_SA_NOT_FOUND",
        INVALID_GROUP_ID = 45 "INVALID_GROUP_ID",
        AUTHORIZATION_FAILED = 46 "AUTHORIZATION_FAILED",
        STATE_NOT_FOUND = 47 "STATE_NOT_FOUND",
        INITIAL_CONTACT = 16384 "INITIAL_CONTACT",
        SET_WINDOW_SIZE = 16385 "SET_WINDOW_SIZE",
        ADDITIONAL_TS_POSSIBLE = 16386 "ADDITIONAL_TS_POSSIBLE",
        IPCOMP_SUPPORTED = 16387 "IPCOMP_SUPPORTED",
        NAT_DETECTION_SOURCE_IP = 16388 "NAT_DETECTION_SOURCE_IP",
        NAT_DETECTION_DESTINATION_IP = 16389 "NAT_DETECTION_DESTINATION_IP",
        COOKIE = 16390 "COOKIE",
        USE_TRANSPORT_MODE = 16391 "USE_TRANSPORT_MODE",
        HTTP_CERT_LOOKUP_SUPPORTED = 16392 "HTTP_CERT_LOOKUP_SUPPORTED",
        REKEY_SA = 16393 "REKEY_SA",
        ESP_TFC_PADDING_NOT_SUPPORTED = 16394 "ESP_TFC_PADDING_NOT_SUPPORTED",
        NON_FIRST_FRAGMENTS_ALSO = 16395 "NON_FIRST_FRAGMENTS_ALSO",
        MOBIKE_SUPPORTED = 16396 "MOBIKE_SUPPORTED",
        ADDITIONAL_IP4_ADDRESS = 16397 "ADDITIONAL_IP4_ADDRESS",
        ADDITIONAL_IP6_ADDRESS = 16398 "ADDITIONAL_IP6_ADDRESS",
        NO_ADDITIONAL_ADDRESSES = 16399 "NO_ADDITIONAL_ADDRESSES",
        UPDATE_SA_ADDRESSES = 16400 "UPDATE_SA_ADDRESSES",
        COOKIE2 = 16401 "COOKIE2",
        NO_NATS_ALLOWED = 16402 "NO_NATS_ALLOWED",
        AUTH_LIFETIME = 16403 "AUTH_LIFETIME",
        MULTIPLE_AUTH_SUPPORTED = 16404 "MULTIPLE_AUTH_SUPPORTED",
        ANOTHER_AUTH_FOLLOWS = 16405 "ANOTHER_AUTH_FOLLOWS",
        REDIRECT_SUPPORTED = 16406 "REDIRECT_SUPPORTED",
        REDIRECT = 16407 "REDIRECT",
        REDIRECTED_FROM = 16408 "REDIRECTED_FROM",
        TICKET_LT_OPAQUE = 16409 "TICKET_LT_OPAQUE",
        TICKET_REQUEST = 16410 "TICKET_REQUEST",
        TICKET_ACK = 16411 "TICKET_ACK",
        TICKET_NACK = 16412 "TICKET_NACK",
        TICKET_OPAQUE = 16413 "TICKET_OPAQUE",
        LINK_ID = 16414 "LINK_ID",
        USE_WESP_MODE = 16415 "USE_WESP_MODE",
        ROHC_SUPPORTED = 16416 "ROHC_SUPPORTED",
        EAP_ONLY_AUTHENTICATION = 16417 "EAP_ONLY_AUTHENTICATION",
        CHILDLESS_IKEV2_SUPPORTED = 16418 "CHILDLESS_IKEV2_SUPPORTED",
        QUICK_CRASH_DETECTION = 16419 "QUICK_CRASH_DETECTION",
        IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420 "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
        IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED = 16421 "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED",
        IKEV2_MESSAGE_ID_SYNC = 16422 "IKEV2_MESSAGE_ID_SYNC",
        IPSEC_REPLAY_COUNTER_SYNC = 16423 "IPSEC_REPLAY_COUNTER_SYNC",
        SECURE_PASSWORD_METHODS = 16424 "SECURE_PASSWORD_METHODS",
        PSK_PERSIST = 16425 "PSK_PERSIST",
        PSK_CONFIRM = 16426 "PSK_CONFIRM",
        ERX_SUPPORTED = 16427 "ERX_SUPPORTED",
        IFOM_CAPABILITY = 16428 "IFOM_CAPABILITY",
        SENDER_REQUEST_ID = 16429 "SENDER_REQUEST_ID",
        FRAGMENTATION_SUPPORTED = 16430 "IKEV2_FRAGMENTATION_SUPPORTED",
        SIGNATURE_HASH_ALGORITHMS = 16431 "SIGNATURE_HASH_ALGORITHMS",
        CLONE_IKE_SA_SUPPORTED = 16432 "CLONE_IKE_SA_SUPPORTED",
        CLONE_IKE_SA = 16433 "CLONE_IKE_SA",
        PUZZLE = 16434 "PUZZLE",
        USE_PPK = 16435 "USE_PPK",
        PPK_IDENTITY = 16436 "PPK_IDENTITY",
        NO_PPK_AUTH = 16437 "NO_PPK_AUTH",
        INTERMEDIATE_EXCHANGE_SUPPORTED = 16438 "INTERMEDIATE_EXCHANGE_SUPPORTED",
        IP4_ALLOWED = 16439 "IP4_ALLOWED",
        IP6_ALLOWED = 16440 "IP6_ALLOWED",
        ADDITIONAL_KEY_EXCHANGE = 16441 "ADDITIONAL_KEY_EXCHANGE",
        USE_AGGFRAG = 16442 "USE_AGGFRAG",
        SUPPORTED_AUTH_METHODS = 16443 "SUPPORTED_AUTH_METHODS",
        SA_RESOURCE_INFO = 16444 "SA_RESOURCE_INFO",
    }

    /// The form of a traffic selector (RFC 7296 section 3.13.1).
    TsType(u8) {
        IPV4_ADDR_RANGE = 7 "TS_IPV4_ADDR_RANGE",
        IPV6_ADDR_RANGE = 8 "TS_IPV6_ADDR_RANGE",
        FC_ADDR_RANGE = 9 "TS_FC_ADDR_RANGE",
        SECLABEL = 10 "TS_SECLABEL",
    }

    /// What a configuration payload does (RFC 7296 section 3.15).
    CfgType(u8) {
        REQUEST = 1 "CFG_REQUEST",
        REPLY = 2 "CFG_REPLY",
        SET = 3 "CFG_SET",
        ACK = 4 "CFG_ACK",
    }

    /// Attributes of a configuration payload (RFC 7296 section 3.15.1, RFC 5026, RFC 5739, RFC 8598).
    CfgAttributeType(u16) {
        INTERNAL_IP4_ADDRESS = 1 "INTERNAL_IP4_ADDRESS",
        INTERNAL_IP4_NETMASK = 2 "INTERNAL_IP4_NETMASK",
        INTERNAL_IP4_DNS = 3 "INTERNAL_IP4_DNS",
        INTERNAL_IP4_NBNS = 4 "INTERNAL_IP4_NBNS",
        INTERNAL_IP4_DHCP = 6 "INTERNAL_IP4_DHCP",
        APPLICATION_VERSION = 7 "APPLICATION_VERSION",
        INTERNAL_IP6_ADDRESS = 8 "INTERNAL_IP6_ADDRESS",
        INTERNAL_IP6_DNS = 10 "INTERNAL_IP6_DNS",
        INTERNAL_IP6_DHCP = 12 "INTERNAL_IP6_DHCP",
        INTERNAL_IP4_SUBNET = 13 "INTERNAL_IP4_SUBNET",
        SUPPORTED_ATTRIBUTES = 14 "SUPPORTED_ATTRIBUTES",
        INTERNAL_IP6_SUBNET = 15 "INTERNAL_IP6_SUBNET",
        MIP6_HOME_PREFIX = 16 "MIP6_HOME_PREFIX",
        INTERNAL_IP6_LINK = 17 "INTERNAL_IP6_LINK",
        INTERNAL_IP6_PREFIX = 18 "INTERNAL_IP6_PREFIX",
        HOME_AGENT_ADDRESS = 19 "HOME_AGENT_ADDRESS",
        P_CSCF_IP4_ADDRESS = 20 "P_CSCF_IP4_ADDRESS",
        P_CSCF_IP6_ADDRESS = 21 "P_CSCF_IP6_ADDRESS",
        FTT_KAT = 22 "FTT_KAT",
        EXTERNAL_SOURCE_IP4_NAT_INFO = 23 "EXTERNAL_SOURCE_IP4_NAT_INFO",
        TIMEOUT_PERIOD_FOR_LIVENESS_CHECK = 24 "TIMEOUT_PERIOD_FOR_LIVENESS_CHECK",
        INTERNAL_DNS_DOMAIN = 25 "INTERNAL_DNS_DOMAIN",
        INTERNAL_DNSSEC_TA = 26 "INTERNAL_DNSSEC_TA",
        ENCDNS_IP4 = 27 "ENCDNS_IP4",
        ENCDNS_IP6 = 28 "ENCDNS_IP6",
        ENCDNS_DIGEST_INFO = 29 "ENCDNS_DIGEST_INFO",
    }

    /// Kinds of EAP message (RFC 3748 section 4).
    EapCode(u8) {
        REQUEST = 1 "Request",
        RESPONSE = 2 "Response",
        SUCCESS = 3 "Success",
        FAILURE = 4 "Failure",
    }
}

impl PayloadType {
    /// The name used in errors; one word for all types without a name.
    pub(crate) const fn label(self) -> &'static str {
        match self.name() {
            Some(name) => name,
            None => "unknown payload",
        }
    }
}

impl NotifyType {
    /// Whether the notify reports an error (RFC 7296 section 3.10.1: 0 to 16383).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 < 16_384
    }
}

impl TransformType {
    /// The name of transform `id` of this type, or `unknown(id)`.
    #[must_use]
    pub fn transform_name(self, id: u16) -> String {
        let name = match self {
            Self::ENCR => EncryptionId(id).name(),
            Self::PRF => PrfId(id).name(),
            Self::INTEG => IntegrityId(id).name(),
            Self::KE => KeyExchangeId(id).name(),
            Self::ESN => SequenceNumbersId(id).name(),
            Self(6..=12) => KeyExchangeId(id).name(),
            _ => None,
        };
        name.map_or_else(|| format!("unknown({id})"), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_table_and_unknown_numbers_survive() {
        assert_eq!(ExchangeType(34).to_string(), "IKE_SA_INIT");
        assert_eq!(ExchangeType(240).to_string(), "unknown(240)");
        assert_eq!(NotifyType::REKEY_SA.0, 16_393);
        assert_eq!(NotifyType::TS_UNACCEPTABLE.0, 38);
        assert_eq!(PayloadType(46), PayloadType::SK);
        assert_eq!(format!("{:>6}", PayloadType::KE), "    KE");
        assert_eq!(TransformType::ENCR.transform_name(20), "AES_GCM_16");
        assert_eq!(TransformType::ADDKE1.transform_name(36), "ML_KEM_768");
        assert_eq!(TransformType(77).transform_name(20), "unknown(20)");
    }

    #[test]
    fn tables_are_sorted_so_that_no_number_has_two_names() {
        assert!(NotifyType::KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        assert!(PayloadType::KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        assert!(CfgAttributeType::KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        assert!(EncryptionId::KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        assert!(IntegrityId::KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        assert!(KeyExchangeId::KNOWN.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn errors_end_where_status_begins() {
        assert!(NotifyType(16_383).is_error());
        assert!(!NotifyType::INITIAL_CONTACT.is_error());
    }
}
