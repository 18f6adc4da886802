//! tshark as the judge of every IKE message: what it decodes, and what it calls malformed, with the keys of each IKE SA.

use std::fs;
use std::path::Path;

use crate::uml::packages;
use crate::uml::{Context, Failure, Result, output_of};

/// One line of Wireshark's `ikev2_decryption_table`. Keys and SPIs as bytes; algorithms by Wireshark's own names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DecryptionKeys {
    /// Initiator's IKE SPI.
    pub(crate) spi_i: [u8; 8],
    /// Responder's IKE SPI.
    pub(crate) spi_r: [u8; 8],
    /// SK_ei; for an AEAD with its salt.
    pub(crate) sk_ei: Vec<u8>,
    /// SK_er; for an AEAD with its salt.
    pub(crate) sk_er: Vec<u8>,
    /// The encryption algorithm.
    pub(crate) encryption: Encryption,
    /// SK_ai; empty for an AEAD.
    pub(crate) sk_ai: Vec<u8>,
    /// SK_ar; empty for an AEAD.
    pub(crate) sk_ar: Vec<u8>,
    /// The integrity algorithm.
    pub(crate) integrity: Integrity,
}

/// Encryption algorithms tshark 4.0 can decrypt. It cannot ChaCha20-Poly1305.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// AES-CBC with 128, 192 or 256 bits.
    AesCbc(u16),
    /// AES-GCM with 128, 192 or 256 bits and an ICV of 8, 12 or 16 octets.
    AesGcm(u16, u8),
}

impl Encryption {
    fn name(self) -> String {
        match self {
            Self::AesCbc(bits) => format!("AES-CBC-{bits} [RFC3602]"),
            Self::AesGcm(bits, octets) => {
                format!("AES-GCM-{bits} with {octets} octet ICV [RFC5282]")
            }
        }
    }
}

/// Integrity algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// None: the encryption is an AEAD.
    None,
    /// HMAC-SHA1-96.
    HmacSha1,
    /// HMAC-SHA2-256-128.
    HmacSha256,
    /// HMAC-SHA2-384-192.
    HmacSha384,
    /// HMAC-SHA2-512-256.
    HmacSha512,
}

impl Integrity {
    fn name(self) -> &'static str {
        match self {
            Self::None => "NONE [RFC4306]",
            Self::HmacSha1 => "HMAC_SHA1_96 [RFC2404]",
            Self::HmacSha256 => "HMAC_SHA2_256_128 [RFC4868]",
            Self::HmacSha384 => "HMAC_SHA2_384_192 [RFC4868]",
            Self::HmacSha512 => "HMAC_SHA2_512_256 [RFC4868]",
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl DecryptionKeys {
    /// The line of the table: keys bare, algorithm names quoted.
    fn line(&self) -> String {
        format!(
            "{},{},{},{},\"{}\",{},{},\"{}\"\n",
            hex(&self.spi_i),
            hex(&self.spi_r),
            hex(&self.sk_ei),
            hex(&self.sk_er),
            self.encryption.name(),
            hex(&self.sk_ai),
            hex(&self.sk_ar),
            self.integrity.name()
        )
    }
}

/// One IKE message as tshark reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IkeMessage {
    /// Number of the packet in the capture, from 1.
    pub(crate) number: usize,
    /// Outermost source address.
    pub(crate) source: String,
    /// Outermost destination address.
    pub(crate) destination: String,
    /// Initiator's IKE SPI in hexadecimal.
    pub(crate) spi_i: String,
    /// Exchange type (34 is IKE_SA_INIT).
    pub(crate) exchange: u8,
    /// Message id.
    pub(crate) message_id: u32,
    /// Whether the response flag is set.
    pub(crate) response: bool,
    /// Payload types in order, those of the decrypted content included.
    pub(crate) payloads: Vec<u8>,
    /// Notify message types in order.
    pub(crate) notifies: Vec<u16>,
    /// Whether an encrypted payload could be read; `None` where nothing is encrypted.
    pub(crate) decrypted: Option<bool>,
    /// tshark's summary line.
    pub(crate) summary: String,
    /// What tshark complains about, warnings and errors: malformed, wrong integrity checksum.
    pub(crate) complaints: Vec<String>,
}

impl IkeMessage {
    /// Whether tshark read the message to its end, decrypted, without a complaint.
    pub(crate) fn is_good(&self) -> bool {
        self.complaints.is_empty() && self.decrypted != Some(false)
    }
}

/// Reads every IKE message of a capture. Messages whose keys are not given stay undecrypted; that is no complaint by itself.
pub(crate) fn read(file: &Path, keys: &[DecryptionKeys]) -> Result<Vec<IkeMessage>> {
    read_with_table(file, &keys.iter().map(DecryptionKeys::line).collect::<String>())
}

/// The same with the lines of an `ikev2_decryption_table`, as watarid writes them.
pub(crate) fn read_with_table(file: &Path, lines: &str) -> Result<Vec<IkeMessage>> {
    let layer = packages::provide(&packages::TSHARK)?;
    let settings = file.with_extension("tshark");
    fs::create_dir_all(&settings).context(settings.display())?;
    let table = settings.join("ikev2_decryption_table");
    fs::write(&table, lines).context(table.display())?;
    let mut command = layer.command("usr/bin/tshark");
    command.args(["-n", "-Y", "isakmp", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]);
    command.arg("-E").arg(format!("aggregator={AGGREGATOR}"));
    for field in FIELDS {
        command.args(["-e", field]);
    }
    // Neither a person's preferences nor a name service may change the verdict.
    command.env("HOME", &settings).env("WIRESHARK_CONFIG_DIR", &settings);
    command.env("WIRESHARK_DATA_DIR", layer.path("usr/share/wireshark"));
    let text = output_of(command.arg("-r").arg(file));
    fs::remove_dir_all(&settings).context(settings.display())?;
    text?.lines().map(|line| parse(line).ok_or_else(|| Failure(format!("tshark printed an unknown line: {line}")))).collect()
}

const AGGREGATOR: char = '|';
const FIELDS: [&str; 14] = [
    "frame.number",
    "_ws.col.Source",
    "_ws.col.Destination",
    "isakmp.ispi",
    "isakmp.exchangetype",
    "isakmp.messageid",
    "isakmp.flag_r",
    "isakmp.typepayload",
    "isakmp.notify.msgtype",
    "isakmp.enc.decrypted",
    "_ws.col.Info",
    "_ws.expert.severity",
    "_ws.expert.message",
    "_ws.malformed",
];
/// PI_WARN: what is below is chat and notes.
const WARNING: u32 = 0x0060_0000;

/// Reads one line of `-T fields`.
fn parse(line: &str) -> Option<IkeMessage> {
    let columns: Vec<&str> = line.split('\t').collect();
    let column = |index: usize| columns.get(index).copied().unwrap_or_default();
    let list = |index: usize| column(index).split(AGGREGATOR).filter(|text| !text.is_empty());
    let mut complaints: Vec<String> = list(11)
        .zip(list(12))
        .filter(|(severity, _)| severity.parse().is_ok_and(|level: u32| level >= WARNING))
        .map(|(_, message)| message.to_owned())
        .collect();
    if complaints.is_empty() && !column(13).is_empty() {
        complaints.push(column(13).to_owned());
    }
    let encrypted = list(7).any(|payload| payload == "46" || payload == "53");
    Some(IkeMessage {
        number: column(0).parse().ok()?,
        source: column(1).into(),
        destination: column(2).into(),
        spi_i: list(3).next()?.into(),
        exchange: list(4).next()?.parse().ok()?,
        message_id: unsigned(list(5).next()?)?,
        response: matches!(list(6).next(), Some("1" | "True")),
        payloads: list(7).filter_map(|text| text.parse().ok()).collect(),
        notifies: list(8).filter_map(|text| text.parse().ok()).collect(),
        decrypted: encrypted.then(|| !column(9).is_empty()),
        summary: column(10).trim().into(),
        complaints,
    })
}

/// A number as tshark prints it: decimal or 0x.
fn unsigned(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decryption_table_line_has_bare_keys_and_quoted_names() {
        let keys = DecryptionKeys {
            spi_i: [1; 8],
            spi_r: [2; 8],
            sk_ei: vec![3; 2],
            sk_er: vec![4; 2],
            encryption: Encryption::AesGcm(128, 16),
            sk_ai: Vec::new(),
            sk_ar: Vec::new(),
            integrity: Integrity::None,
        };
        let wanted = "0101010101010101,0202020202020202,0303,0404,\"AES-GCM-128 with 16 octet ICV [RFC5282]\",,,\"NONE [RFC4306]\"\n";
        assert_eq!(keys.line(), wanted);
    }

    /// Printed by tshark 4.0.17 for a strongSwan exchange, first with the right key, then with a wrong SK_ei.
    #[test]
    fn lines_of_tshark_become_messages_and_complaints() {
        let good = "14\t2001:db8::1\t2001:db8::2\t90c91fcd48056b68\t35\t0x00000001\t0\t46|35|41\t16384\t1\tIKE_AUTH MID=01 Initiator Request\t\t\t\t";
        let message = parse(good).unwrap();
        assert!(message.is_good());
        assert_eq!((message.exchange, message.message_id, message.response), (35, 1, false));
        assert_eq!((message.payloads, message.notifies), (vec![46, 35, 41], vec![16384]));
        let bad =
            good.replace("\t\t\t\t", "\t6291456|8388608|2097152\tIKEv2 Integrity Checksum Data is incorrect|Malformed Packet|chat\t\t");
        let message = parse(&bad).unwrap();
        assert_eq!(message.complaints, ["IKEv2 Integrity Checksum Data is incorrect", "Malformed Packet"]);
        let locked = parse(&good.replace("16384\t1\t", "16384\t\t")).unwrap();
        assert_eq!((locked.decrypted, locked.is_good()), (Some(false), false));
        assert_eq!(parse("nonsense"), None);
    }
}
