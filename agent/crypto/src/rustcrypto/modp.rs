//! The MODP groups of RFC 3526: safe primes with generator 2, in constant time with short exponents.

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U512, U2048, U3072, U4096, Uint};
use watari_policies::algorithm::Group;
use watari_policies::secret::Secret;
use zeroize::Zeroizing;

use crate::{CryptoError, KePrivate, KeyExchange};

/// One group. The exponent is the first `exponent_len` octets of the seed: at least twice the greater strength estimate of
/// RFC 3526 8 (2 x 160, 2 x 210, 2 x 240 bits), so that it is never the weak part and costs a fraction of a full one.
pub(super) struct Modp<const LIMBS: usize> {
    group: Group,
    exponent_len: usize,
    params: FixedMontyParams<LIMBS>,
}

pub(super) static MODP2048: LazyLock<Modp<{ U2048::LIMBS }>> = LazyLock::new(|| Modp::new(Group::Modp2048, 48, PRIME_2048));
pub(super) static MODP3072: LazyLock<Modp<{ U3072::LIMBS }>> = LazyLock::new(|| Modp::new(Group::Modp3072, 56, PRIME_3072));
pub(super) static MODP4096: LazyLock<Modp<{ U4096::LIMBS }>> = LazyLock::new(|| Modp::new(Group::Modp4096, 64, PRIME_4096));

impl<const LIMBS: usize> Modp<LIMBS> {
    fn new(group: Group, exponent_len: usize, prime: &str) -> Self {
        Self { group, exponent_len, params: FixedMontyParams::new_vartime(Odd::<Uint<LIMBS>>::from_be_hex(prime)) }
    }

    /// base ^ exponent mod p, as many octets as p has.
    fn power(&self, base: &Uint<LIMBS>, exponent: &U512) -> Zeroizing<Vec<u8>> {
        let bits = u32::try_from(self.exponent_len.saturating_mul(8)).unwrap_or(U512::BITS);
        let power = Zeroizing::new(FixedMontyForm::new(base, &self.params).pow_bounded_exp(exponent, bits).retrieve());
        Zeroizing::new(power.to_be_bytes().as_ref().to_vec())
    }

    /// The exponent from octets of big-endian order, if it is one of ours.
    fn exponent(&self, bytes: &[u8]) -> Result<Zeroizing<U512>, CryptoError> {
        let broken = CryptoError::Seed(self.group.name());
        let significant = bytes.get(..self.exponent_len).ok_or(broken.clone())?;
        let mut padded = Zeroizing::new([0; 64]);
        let tail = 64usize.saturating_sub(self.exponent_len);
        padded.get_mut(tail..).ok_or(broken.clone())?.copy_from_slice(significant);
        let exponent = Zeroizing::new(U512::from_be_slice(&*padded));
        if bool::from(exponent.is_zero()) { Err(broken) } else { Ok(exponent) }
    }

    /// The peer's public value, checked.
    fn public(&self, bytes: &[u8]) -> Result<Uint<LIMBS>, CryptoError> {
        let invalid = |why| CryptoError::PublicValue { group: self.group.name(), why };
        //= rfc7296#3.4
        //# The length of the public value MUST equal the length of the prime, with leading zeros where needed.
        if bytes.len() != self.group.public_len() {
            return Err(invalid("its length is not that of the prime"));
        }
        let value = Uint::<LIMBS>::from_be_slice(bytes);
        //= rfc6989#2.1
        //# Each recipient MUST verify that the peer's public value r is in the range 1 < r < p-1.
        let greatest = self.params.modulus().as_ref().wrapping_sub(&Uint::ONE);
        if value <= Uint::ONE || value >= greatest {
            return Err(invalid("it is not between 1 and p-1"));
        }
        Ok(value)
    }
}

impl<const LIMBS: usize> KeyExchange for Modp<LIMBS> {
    fn id(&self) -> Group {
        self.group
    }

    fn generate(&self, seed: &[u8; 64]) -> Result<(KePrivate, Vec<u8>), CryptoError> {
        let exponent = self.exponent(seed)?;
        let public = self.power(&Uint::from_u32(2), &exponent).to_vec();
        let significant = seed.get(..self.exponent_len).unwrap_or_default();
        Ok((KePrivate::new(self.group, Secret::from(significant)), public))
    }

    fn agree(&self, private: &KePrivate, peer_public: &[u8]) -> Result<Secret, CryptoError> {
        let exponent = self.exponent(private.value_for(self.group)?.expose())?;
        //= rfc7296#2.14
        //# g^ir is a string of octets in big endian order, padded with zeros if necessary to the length of the modulus.
        Ok(Secret::from(&self.power(&self.public(peer_public)?, &exponent)[..]))
    }
}

const PRIME_2048: &str = "\
    FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B\
    302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6\
    49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D\
    670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718\
    3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF";

const PRIME_3072: &str = "\
    FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B\
    302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6\
    49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D\
    670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718\
    3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7D\
    B3970F85A6E1E4C7ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C\
    BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF";

const PRIME_4096: &str = "\
    FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B\
    302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6\
    49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D\
    670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718\
    3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7D\
    B3970F85A6E1E4C7ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C\
    BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D788719A10BDBA5B26\
    99C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6287C59474E6BC05D99B2964FA090C3A2\
    233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA993B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199\
    FFFFFFFFFFFFFFFF";

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range<const LIMBS: usize>(modp: &Modp<LIMBS>) {
        let accepts = |value: &Uint<LIMBS>| modp.public(value.to_be_bytes().as_ref()).is_ok();
        let small = |value: u32| Uint::<LIMBS>::from_u32(value);
        let prime = *modp.params.modulus().as_ref();
        assert!(!accepts(&small(0)) && !accepts(&small(1)) && accepts(&small(2)), "{}", modp.group);
        let below = |less: u32| prime.wrapping_sub(&small(less));
        assert!(!accepts(&prime) && !accepts(&below(1)) && accepts(&below(2)), "{}", modp.group);
        assert!(!accepts(&Uint::MAX), "{}", modp.group);
    }

    #[test]
    fn public_values_lie_between_1_and_p_minus_1() {
        check_range(&MODP2048);
        check_range(&MODP3072);
        check_range(&MODP4096);
    }
}
