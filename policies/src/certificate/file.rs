//! Certificates in a file: PEM with any number of them and anything in between, or one in DER.

use super::{Certificate, CertificateError};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// Every certificate of a file, in its order. At least one.
///
/// # Errors
/// [`CertificateError`] of the first that cannot be read, or that there is none.
pub fn certificates(content: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    if content.first() == Some(&0x30) {
        return Certificate::from_der(content).map(|certificate| vec![certificate]);
    }
    let mut found = Vec::new();
    for (label, block) in blocks(content) {
        if label != "CERTIFICATE" {
            continue;
        }
        let (_, octets) = der::pem::decode_vec(block.as_bytes())
            .map_err(|error| CertificateError::Unreadable(format!("the text between BEGIN and END is not base64: {error}")))?;
        found.push(Certificate::from_der(&octets)?);
    }
    if found.is_empty() { Err(CertificateError::None) } else { Ok(found) }
}

/// The PEM blocks of a file with their labels; what is no text has none.
pub(super) fn blocks(content: &[u8]) -> Vec<(&str, &str)> {
    let Ok(mut rest) = std::str::from_utf8(content) else { return Vec::new() };
    let mut found = Vec::new();
    while let Some((start, label)) = rest.find(BEGIN).and_then(|start| {
        let after = rest.get(start.checked_add(BEGIN.len())?..)?;
        Some((start, after.get(..after.find("-----")?)?))
    }) {
        let tail = rest.get(start..).unwrap_or_default();
        let end = format!("{END}{label}-----");
        let Some(stop) = tail.find(&end).and_then(|at| at.checked_add(end.len())) else { break };
        let (block, after) = tail.split_at_checked(stop).unwrap_or((tail, ""));
        found.push((label, block));
        rest = after;
    }
    found
}
