//! NIST P-256 and P-384 (RFC 5903): public value x | y, shared secret x.

use crypto_bigint::{NonZero, U512};
use p256::elliptic_curve::sec1::ToSec1Point;
use watari_policies::algorithm::Group;
use watari_policies::secret::Secret;
use zeroize::Zeroizing;

use crate::{CryptoError, KePrivate, KeyExchange};

/// The private value: the seed as a number of 512 bits modulo the order of the group, so that it is as good as evenly distributed.
fn private_value(seed: &[u8; 64], order: &NonZero<U512>) -> Zeroizing<[u8; 64]> {
    let wide = Zeroizing::new(U512::from_be_slice(seed));
    let reduced = Zeroizing::new(wide.rem(order));
    let mut bytes = Zeroizing::new([0; 64]);
    for (to, from) in bytes.iter_mut().zip(reduced.to_be_bytes().as_ref()) {
        *to = *from;
    }
    bytes
}

macro_rules! ecp {
    ($(#[$doc:meta])* $name:ident, $curve:ident, $group:expr, $len:literal, $order:literal) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl KeyExchange for $name {
            fn id(&self) -> Group {
                $group
            }

            fn generate(&self, seed: &[u8; 64]) -> Result<(KePrivate, Vec<u8>), CryptoError> {
                const ORDER: NonZero<U512> = NonZero::<U512>::from_be_hex($order);
                let value = private_value(seed, &ORDER);
                let value = value.last_chunk::<$len>().ok_or(CryptoError::Seed($group.name()))?;
                let key = $curve::SecretKey::from_slice(value).map_err(|_| CryptoError::Seed($group.name()))?;
                //= rfc5903#7
                //# The Diffie-Hellman public value is the concatenation of the x and y coordinates, without a leading octet for the form.
                let public = key.public_key().to_sec1_point(false).as_bytes().get(1..).unwrap_or_default().to_vec();
                Ok((KePrivate::new($group, Secret::from(&value[..])), public))
            }

            fn agree(&self, private: &KePrivate, peer_public: &[u8]) -> Result<Secret, CryptoError> {
                let value = private.value_for($group)?.expose();
                let key = $curve::SecretKey::from_slice(value).map_err(|_| CryptoError::Seed($group.name()))?;
                let invalid = |why| CryptoError::PublicValue { group: $group.name(), why };
                if peer_public.len() != $group.public_len() {
                    return Err(invalid("it is not two coordinates long"));
                }
                //= rfc6989#2.3
                //# A receiving peer MUST check that the public value is a point of the curve.
                let uncompressed = [&[4], peer_public].concat();
                let peer = $curve::PublicKey::from_sec1_bytes(&uncompressed).map_err(|_| invalid("it is not a point of the curve"))?;
                //= rfc5903#7
                //# The Diffie-Hellman shared secret value is the x coordinate of the common value.
                let shared = $curve::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
                Ok(Secret::from(&shared.raw_secret_bytes()[..]))
            }
        }
    };
}

ecp!(
    /// Group 19.
    Ecp256, p256, Group::Ecp256, 32, "0000000000000000000000000000000000000000000000000000000000000000FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551"
);
ecp!(
    /// Group 20.
    Ecp384, p384, Group::Ecp384, 48, "00000000000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973"
);
