//! Proposals between the configuration and the SA payload (RFC 7296 3.3).
//! Invariant: an answer is accepted only if it is one of our proposals with exactly one algorithm of each kind.

use watari_policies::Protocol;
use watari_policies::algorithm::{ChildProposal, ChildSuite, Cipher, Group, IkeProposal, IkeSuite, Integrity, Prf};
use watari_sa::Offered;
use watari_sa::negotiate::Kind;
use watari_wire::ikev2::{Proposal, ProtocolId, Transform, TransformType};

/// The wire's number of an IPsec protocol.
pub(crate) const fn protocol_id(protocol: Protocol) -> ProtocolId {
    match protocol {
        Protocol::Esp => ProtocolId::ESP,
        Protocol::Ah => ProtocolId::AH,
    }
}

fn cipher(cipher: Cipher) -> Transform {
    match cipher.key_length_attribute() {
        //= rfc7296#3.3.5
        //# the key length stands with ciphers of variable key length and with no others
        Some(bits) => Transform::with_key_length(TransformType::ENCR, cipher.transform_id(), bits),
        None => Transform::new(TransformType::ENCR, cipher.transform_id()),
    }
}

fn integrity(integrity: Integrity) -> Transform {
    Transform::new(TransformType::INTEG, integrity.transform_id())
}

fn prf(prf: Prf) -> Transform {
    Transform::new(TransformType::PRF, prf.transform_id())
}

fn group(group: Group) -> Transform {
    Transform::new(TransformType::KE, group.transform_id())
}

fn esn(esn: bool) -> Transform {
    Transform::new(TransformType::ESN, u16::from(esn))
}

fn numbered<T>(items: &[T], protocol: ProtocolId, spi: &[u8], transforms: impl Fn(&T) -> Vec<Transform>) -> Vec<Proposal> {
    //= rfc7296#3.3.1
    //# proposals are numbered from 1, each one higher than the one before
    items
        .iter()
        .zip(1u8..=255)
        .map(|(item, number)| Proposal { number, protocol, spi: spi.to_vec(), transforms: transforms(item) })
        .collect()
}

/// The SA payload that offers IKE proposals; `spi` is empty in IKE_SA_INIT and 8 octets in a rekey.
pub(crate) fn offer_ike(proposals: &[IkeProposal], spi: &[u8]) -> Vec<Proposal> {
    numbered(proposals, ProtocolId::IKE, spi, |proposal| {
        let mut transforms: Vec<Transform> = proposal.ciphers.iter().copied().map(cipher).collect();
        transforms.extend(proposal.prfs.iter().copied().map(prf));
        transforms.extend(proposal.integrities.iter().copied().map(integrity));
        transforms.extend(proposal.groups.iter().copied().map(group));
        transforms
    })
}

/// The SA payload that offers child proposals, with their groups unless it goes into IKE_AUTH.
pub(crate) fn offer_child(proposals: &[ChildProposal], protocol: Protocol, spi: u32, with_groups: bool) -> Vec<Proposal> {
    numbered(proposals, protocol_id(protocol), &spi.to_be_bytes(), |proposal| {
        let mut transforms: Vec<Transform> = proposal.ciphers.iter().copied().map(cipher).collect();
        transforms.extend(proposal.integrities.iter().copied().map(integrity));
        if with_groups {
            transforms.extend(proposal.groups.iter().copied().map(group));
        }
        transforms.extend(proposal.esn.iter().copied().map(esn));
        transforms
    })
}

/// The SA payload that answers with an IKE suite.
pub(crate) fn answer_ike(number: u8, suite: &IkeSuite, spi: &[u8]) -> Vec<Proposal> {
    let mut transforms = vec![cipher(suite.cipher), prf(suite.prf)];
    transforms.extend(suite.integrity.map(integrity));
    transforms.push(group(suite.group));
    vec![Proposal { number, protocol: ProtocolId::IKE, spi: spi.to_vec(), transforms }]
}

/// The SA payload that answers with a child suite.
pub(crate) fn answer_child(number: u8, suite: &ChildSuite, exchange: Option<Group>, protocol: Protocol, spi: u32) -> Vec<Proposal> {
    let mut transforms = vec![cipher(suite.cipher)];
    transforms.extend(suite.integrity.map(integrity));
    transforms.extend(exchange.map(group));
    transforms.push(esn(suite.esn));
    vec![Proposal { number, protocol: protocol_id(protocol), spi: spi.to_be_bytes().to_vec(), transforms }]
}

/// What the peer offers for one protocol with an SPI of `spi_len` octets; proposals for others are left out.
pub(crate) fn offered(proposals: &[Proposal], protocol: ProtocolId, spi_len: usize) -> Vec<Offered> {
    let fits = |proposal: &&Proposal| proposal.protocol == protocol && proposal.spi.len() == spi_len;
    proposals.iter().filter(fits).map(read).collect()
}

fn read(proposal: &Proposal) -> Offered {
    let mut offered = Offered { number: proposal.number, ..Offered::default() };
    let mut any_group = false;
    for transform in &proposal.transforms {
        let (id, kind) = (transform.id, transform.transform_type);
        let unknown = |kind: Kind| (kind, kind_name(transform));
        //= rfc7296#3.3.6
        //# a transform with an attribute that is not understood is not chosen
        let understood = !transform.has_unknown_attribute();
        match kind {
            TransformType::ENCR => match Cipher::from_transform(id, transform.key_length()).filter(|_| understood) {
                Some(cipher) => offered.ciphers.push(cipher),
                None => offered.unknown.push(unknown(Kind::Encryption)),
            },
            TransformType::PRF => match Prf::from_transform(id).filter(|_| understood) {
                Some(prf) => offered.prfs.push(prf),
                None => offered.unknown.push(unknown(Kind::Prf)),
            },
            TransformType::INTEG if id == 0 => {}
            TransformType::INTEG => match Integrity::from_transform(id).filter(|_| understood) {
                Some(integrity) => offered.integrities.push(integrity),
                None => offered.unknown.push(unknown(Kind::Integrity)),
            },
            TransformType::KE => {
                any_group = true;
                match Group::from_transform(id).filter(|_| understood) {
                    Some(group) => offered.groups.push(group),
                    None if id == 0 => offered.no_group = true,
                    None => offered.unknown.push(unknown(Kind::Group)),
                }
            }
            TransformType::ESN => match id {
                0 | 1 => offered.esn.push(id == 1),
                _ => offered.unknown.push(unknown(Kind::Esn)),
            },
            //= rfc7296#3.3.6
            //# a proposal with a transform type that is not understood is not chosen
            _ => offered.unusable = true,
        }
    }
    offered.no_group |= !any_group;
    offered
}

fn kind_name(transform: &Transform) -> String {
    let name = transform.transform_type.transform_name(transform.id);
    transform.key_length().map_or_else(|| name.clone(), |bits| format!("{name}-{bits}"))
}

/// Whether each list holds at most one entry and nothing unknown: what an answer must look like.
fn single(offered: &Offered) -> bool {
    let lists = [offered.ciphers.len(), offered.integrities.len(), offered.prfs.len(), offered.groups.len(), offered.esn.len()];
    offered.unknown.is_empty() && !offered.unusable && lists.into_iter().all(|length| length <= 1)
}

/// The IKE suite and SPI in an answer to our offer; `None` if it is not something we offered.
pub(crate) fn chosen_ike(ours: &[IkeProposal], answer: &[Proposal], spi_len: usize) -> Option<(IkeSuite, Vec<u8>)> {
    //= rfc7296#2.7
    //# the initiator verifies that the accepted proposal is one of those it sent
    let [proposal] = answer else { return None };
    let [offered] = offered(answer, ProtocolId::IKE, spi_len).try_into().ok()?;
    let ours = ours.get(usize::from(proposal.number).checked_sub(1)?)?;
    let suite = IkeSuite {
        cipher: *offered.ciphers.first()?,
        integrity: offered.integrities.first().copied(),
        prf: *offered.prfs.first()?,
        group: *offered.groups.first()?,
    };
    (single(&offered) && ours.allows(&suite)).then(|| (suite, proposal.spi.clone()))
}

/// The child suite, group and SPI in an answer to our offer; `None` if it is not something we offered.
pub(crate) fn chosen_child(ours: &[ChildProposal], answer: &[Proposal], protocol: Protocol) -> Option<(ChildSuite, Option<Group>, u32)> {
    let [proposal] = answer else { return None };
    let [offered] = offered(answer, protocol_id(protocol), 4).try_into().ok()?;
    let ours = ours.get(usize::from(proposal.number).checked_sub(1)?)?;
    let suite = ChildSuite {
        cipher: *offered.ciphers.first()?,
        integrity: offered.integrities.first().copied(),
        // Some peers leave the transform out where only one value was offered.
        esn: offered.esn.first().copied().unwrap_or(false),
    };
    let spi = u32::from_be_bytes(<[u8; 4]>::try_from(proposal.spi.as_slice()).ok()?);
    let group = offered.groups.first().copied();
    //= rfc7296#2.7
    //# one of each type that was offered is chosen: no group only where the proposal had none
    let group_fits = group.map_or(ours.groups.is_empty(), |group| ours.groups.contains(&group));
    (single(&offered) && spi != 0 && ours.allows(&suite) && group_fits).then_some((suite, group, spi))
}

/// The SPI of the proposal that was chosen out of an offer for child SAs.
pub(crate) fn child_spi(proposals: &[Proposal], number: u8, protocol: Protocol) -> Option<u32> {
    let proposal = proposals.iter().find(|proposal| proposal.number == number && proposal.protocol == protocol_id(protocol))?;
    let spi = u32::from_be_bytes(<[u8; 4]>::try_from(proposal.spi.as_slice()).ok()?);
    (spi != 0).then_some(spi)
}

/// The SPI of the proposal that was chosen out of an offer for an IKE SA.
pub(crate) fn ike_spi(proposals: &[Proposal], number: u8) -> Option<u64> {
    let proposal = proposals.iter().find(|proposal| proposal.number == number && proposal.protocol == ProtocolId::IKE)?;
    let spi = u64::from_be_bytes(<[u8; 8]>::try_from(proposal.spi.as_slice()).ok()?);
    (spi != 0).then_some(spi)
}

#[cfg(test)]
mod tests {
    use super::*;
    use watari_wire::ikev2::{Attribute, AttributeType, AttributeValue};

    fn ours() -> Vec<IkeProposal> {
        vec!["aes128gcm16-prfsha256-x25519-ecp256".parse().unwrap(), "aes256-aes128-sha256-x25519".parse().unwrap()]
    }

    #[test]
    fn an_offer_read_back_is_what_was_offered() {
        let offer = offer_ike(&ours(), &[]);
        assert_eq!(offer.iter().map(|proposal| proposal.number).collect::<Vec<_>>(), [1, 2]);
        let read = offered(&offer, ProtocolId::IKE, 0);
        assert_eq!(read[0].groups, [Group::Curve25519, Group::Ecp256]);
        assert_eq!(read[1].ciphers, [Cipher::AES256, Cipher::AES128]);
        assert!(offered(&offer, ProtocolId::ESP, 4).is_empty() && offered(&offer, ProtocolId::IKE, 8).is_empty());
    }

    #[test]
    fn only_what_was_offered_is_accepted() {
        let suite: IkeSuite =
            IkeSuite { cipher: Cipher::AES128, integrity: Some(Integrity::HmacSha256_128), prf: Prf::HmacSha256, group: Group::Curve25519 };
        assert_eq!(chosen_ike(&ours(), &answer_ike(2, &suite, &[]), 0).map(|found| found.0), Some(suite));
        assert_eq!(chosen_ike(&ours(), &answer_ike(1, &suite, &[]), 0), None, "a number of another proposal");
        assert_eq!(chosen_ike(&ours(), &answer_ike(3, &suite, &[]), 0), None, "a number that was not offered");
        let other = IkeSuite { group: Group::Ecp384, ..suite };
        assert_eq!(chosen_ike(&ours(), &answer_ike(2, &other, &[]), 0), None);
        let mut two = answer_ike(2, &suite, &[]);
        two[0].transforms.push(group(Group::Curve25519));
        assert_eq!(chosen_ike(&ours(), &two, 0), None, "two of one kind");
        assert_eq!(chosen_ike(&ours(), &offer_ike(&ours(), &[]), 0), None, "two proposals");
    }

    #[test]
    fn a_key_exchange_that_was_offered_cannot_be_left_out() {
        let suite = ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false };
        let ours = vec!["aes128gcm16-x25519".parse().unwrap(), "aes128gcm16".parse().unwrap()];
        let chosen = |number, group| chosen_child(&ours, &answer_child(number, &suite, group, Protocol::Esp, 7), Protocol::Esp);
        assert_eq!(chosen(1, Some(Group::Curve25519)), Some((suite, Some(Group::Curve25519), 7)));
        assert_eq!(chosen(1, None), None);
        assert_eq!(chosen(2, None), Some((suite, None, 7)));
        assert_eq!(chosen(2, Some(Group::Curve25519)), None);
    }

    #[test]
    fn integrity_none_beside_an_aead_means_nothing() {
        let suite = ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false };
        let ours = vec!["aes128gcm16".parse().unwrap()];
        let mut answer = answer_child(1, &suite, None, Protocol::Esp, 7);
        answer[0].transforms.push(Transform::new(TransformType::INTEG, 0));
        assert_eq!(chosen_child(&ours, &answer, Protocol::Esp), Some((suite, None, 7)));
        assert_eq!(chosen_child(&ours, &answer_child(1, &suite, None, Protocol::Esp, 0), Protocol::Esp), None, "SPI 0 is none");
    }

    #[test]
    fn unknown_transforms_are_named_and_unknown_kinds_spoil_the_proposal() {
        let mut offer = offer_child(&["aes128gcm16".parse().unwrap()], Protocol::Esp, 9, true);
        offer[0].transforms.push(Transform::new(TransformType::ENCR, 3));
        let attribute = Attribute { attribute_type: AttributeType(99), value: AttributeValue::Short(1) };
        let mut odd = Transform::with_key_length(TransformType::ENCR, 20, 256);
        odd.attributes.push(attribute);
        offer[0].transforms.push(odd);
        let read = offered(&offer, ProtocolId::ESP, 4).remove(0);
        assert_eq!(read.unknown.len(), 2, "{:?}", read.unknown);
        assert!(read.no_group && !read.unusable);
        offer[0].transforms.push(Transform::new(TransformType(200), 1));
        assert!(offered(&offer, ProtocolId::ESP, 4)[0].unusable);
    }
}
