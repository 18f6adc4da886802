//! Which algorithms PF_KEY can install exactly as their RFCs say, and under which numbers.
//! Invariant: what a kernel would install with another ICV length, or cannot install at all, is neither offered nor written.

use std::collections::BTreeSet;

use watari_kernel::Capability;
use watari_policies::algorithm::{ChildSuite, Cipher, Encryption, Integrity};

use crate::dialect::Dialect;
use crate::extension::{RawAlgorithm, RawWord, SUPPORTED_AUTH, SUPPORTED_ENCRYPT};
use crate::message::Message;

/// SADB_EALG_* of the ciphers that every dialect has; there is none for AEAD ciphers.
const ENCRYPTION: [(u8, Encryption); 2] = [(12, Encryption::AesCbc), (11, Encryption::Null)];
/// SADB_AALG_* and SADB_X_AALG_*.
const INTEGRITY: [(u8, Integrity); 4] =
    [(3, Integrity::HmacSha1_96), (5, Integrity::HmacSha256_128), (6, Integrity::HmacSha384_192), (7, Integrity::HmacSha512_256)];

/// The integrity algorithms whose ICV has the right length: Linux cuts HMAC-SHA-256 to 96 bits where RFC 4868 says 128, and the
/// lengths of KAME's SHA-2 differ between systems.
const fn exact(dialect: Dialect) -> &'static [Integrity] {
    match dialect {
        Dialect::Linux => &[Integrity::HmacSha1_96, Integrity::HmacSha384_192, Integrity::HmacSha512_256],
        Dialect::Kame => &[Integrity::HmacSha1_96],
    }
}

/// What may be offered before the kernel has been asked.
pub(crate) fn capability(dialect: Dialect) -> Capability {
    Capability {
        esn: false,
        aead: false,
        encryption: Some(ENCRYPTION.iter().map(|(_, cipher)| *cipher).collect()),
        integrity: Some(exact(dialect).iter().copied().collect()),
        ..Capability::default()
    }
}

/// Takes away what the kernel does not list in its answer to REGISTER.
pub(crate) fn restrict(capability: &mut Capability, message: &Message<'_>) -> Result<(), String> {
    if let Some(listed) = listed(message, SUPPORTED_ENCRYPT)?
        && let Some(known) = &mut capability.encryption
    {
        known.retain(|cipher| ENCRYPTION.iter().any(|(id, this)| this == cipher && listed.contains(id)));
    }
    if let Some(listed) = listed(message, SUPPORTED_AUTH)?
        && let Some(known) = &mut capability.integrity
    {
        known.retain(|integrity| INTEGRITY.iter().any(|(id, this)| this == integrity && listed.contains(id)));
    }
    Ok(())
}

fn listed(message: &Message<'_>, kind: u16) -> Result<Option<BTreeSet<u8>>, String> {
    let Some(part) = message.extension(kind) else { return Ok(None) };
    let (_, mut rest) = part.take::<RawWord>("a list of algorithms")?;
    let mut ids = BTreeSet::new();
    while !rest.is_empty() {
        let (algorithm, behind) = rest.take::<RawAlgorithm>("sadb_alg")?;
        ids.insert(algorithm.id);
        rest = behind;
    }
    Ok(Some(ids))
}

/// The numbers of a suite: encryption and integrity, 0 for none.
pub(crate) fn numbers(dialect: Dialect, suite: &ChildSuite) -> Result<(u8, u8), String> {
    if suite.esn {
        return Err("PF_KEY cannot install extended sequence numbers".to_owned());
    }
    let integrity = match suite.integrity {
        Some(integrity) if !exact(dialect).contains(&integrity) => {
            return Err(format!("PF_KEY would install {integrity} with another ICV length than RFC 4868 says"));
        }
        Some(integrity) => INTEGRITY.iter().find(|(_, known)| *known == integrity).map_or(0, |(id, _)| *id),
        None => 0,
    };
    Ok((encryption(suite.cipher)?, integrity))
}

fn encryption(cipher: Cipher) -> Result<u8, String> {
    let found = ENCRYPTION.iter().find(|(_, known)| *known == cipher.algorithm);
    found.map(|(id, _)| *id).ok_or_else(|| format!("PF_KEY cannot install {cipher}"))
}
