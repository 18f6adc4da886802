//! Reading a list of payloads: each kind by name, the first of its kind counts.

use watari_wire::ikev2::{CertEncoding, Delete, Identification, Notify, NotifyType, Payload, Proposal, TrafficSelector};

/// The payloads of one message, clear or decrypted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payloads<'a>(pub(crate) &'a [Payload]);

impl<'a> Payloads<'a> {
    /// SA.
    pub(crate) fn proposals(self) -> Option<&'a [Proposal]> {
        self.0
            .iter()
            .find_map(|payload| if let Payload::SecurityAssociation(proposals) = payload { Some(proposals.as_slice()) } else { None })
    }

    /// KE: group and public value.
    pub(crate) fn key_exchange(self) -> Option<(u16, &'a [u8])> {
        self.0
            .iter()
            .find_map(|payload| if let Payload::KeyExchange { group, data } = payload { Some((*group, data.as_slice())) } else { None })
    }

    /// Ni or Nr.
    pub(crate) fn nonce(self) -> Option<&'a [u8]> {
        self.0.iter().find_map(|payload| if let Payload::Nonce(nonce) = payload { Some(nonce.as_slice()) } else { None })
    }

    /// IDi.
    pub(crate) fn id_initiator(self) -> Option<&'a Identification> {
        self.0.iter().find_map(|payload| if let Payload::IdInitiator(id) = payload { Some(id) } else { None })
    }

    /// IDr.
    pub(crate) fn id_responder(self) -> Option<&'a Identification> {
        self.0.iter().find_map(|payload| if let Payload::IdResponder(id) = payload { Some(id) } else { None })
    }

    /// AUTH: method number and proof.
    pub(crate) fn authentication(self) -> Option<(u8, &'a [u8])> {
        self.0.iter().find_map(|payload| {
            if let Payload::Authentication { method, data } = payload { Some((method.0, data.as_slice())) } else { None }
        })
    }

    /// Every X.509 certificate, in order. Other encodings are left alone: nobody here asked for them.
    pub(crate) fn certificates(self) -> Vec<Vec<u8>> {
        let of_kind = |payload: &Payload| match payload {
            Payload::Certificate { encoding, data } if *encoding == CertEncoding::X509_SIGNATURE => Some(data.clone()),
            _ => None,
        };
        self.0.iter().filter_map(of_kind).collect()
    }

    /// TSi.
    pub(crate) fn traffic_initiator(self) -> Option<&'a [TrafficSelector]> {
        self.0.iter().find_map(|payload| if let Payload::TrafficInitiator(list) = payload { Some(list.as_slice()) } else { None })
    }

    /// TSr.
    pub(crate) fn traffic_responder(self) -> Option<&'a [TrafficSelector]> {
        self.0.iter().find_map(|payload| if let Payload::TrafficResponder(list) = payload { Some(list.as_slice()) } else { None })
    }

    /// Every D.
    pub(crate) fn deletes(self) -> impl Iterator<Item = &'a Delete> {
        self.0.iter().filter_map(|payload| if let Payload::Delete(delete) = payload { Some(delete) } else { None })
    }

    /// Every N.
    pub(crate) fn notifies(self) -> impl Iterator<Item = &'a Notify> {
        self.0.iter().filter_map(|payload| if let Payload::Notify(notify) = payload { Some(notify) } else { None })
    }

    /// The first N of a type.
    pub(crate) fn notify(self, kind: NotifyType) -> Option<&'a Notify> {
        self.notifies().find(|notify| notify.notify_type == kind)
    }

    /// The first N that reports an error. USE_ASSIGNED_HoA has the number of one, but goes along with what was given (RFC 5026 5.3.2).
    pub(crate) fn error(self) -> Option<&'a Notify> {
        self.notifies().find(|notify| notify.notify_type.is_error() && notify.notify_type != NotifyType::USE_ASSIGNED_HOA)
    }
}

/// N without data.
pub(crate) fn notify(kind: NotifyType) -> Payload {
    Payload::Notify(Notify::new(kind, Vec::new()))
}

/// N with data.
pub(crate) fn notify_with(kind: NotifyType, data: Vec<u8>) -> Payload {
    Payload::Notify(Notify::new(kind, data))
}
