//! What KAME wants to be told again: the source address of an SA when it is removed or read, and the number of the GETSPI when its larval
//! SA gets its keys. Linux needs neither, and for it nothing is remembered.

use std::collections::BTreeMap;
use std::net::IpAddr;

use watari_kernel::{Endpoints, Migrate, SaId, SaInfo, Template};
use watari_policies::Reqid;

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    sas: BTreeMap<SaId, (IpAddr, Reqid)>,
    reserved: BTreeMap<SaId, u32>,
}

impl Sources {
    /// The source address of an SA.
    pub(crate) fn source(&self, id: &SaId) -> Option<IpAddr> {
        self.sas.get(id).map(|(src, _)| *src)
    }

    /// The number of the GETSPI that reserved the SA's SPI.
    pub(crate) fn reserved(&self, id: &SaId) -> Option<u32> {
        self.reserved.get(id).copied()
    }

    /// An SPI was reserved; nobody but the asker is told of the larval SA.
    pub(crate) fn reserve(&mut self, id: SaId, seq: u32, src: IpAddr, reqid: Reqid) {
        self.sas.insert(id, (src, reqid));
        self.reserved.insert(id, seq);
    }

    /// An SA is there.
    pub(crate) fn add(&mut self, sa: &SaInfo) {
        if let Some(id) = sa.id() {
            self.sas.insert(id, (sa.src, sa.reqid));
        }
    }

    /// An SA or its larval state is gone.
    pub(crate) fn remove(&mut self, id: &SaId) {
        self.sas.remove(id);
        self.reserved.remove(id);
    }

    /// These are all SAs.
    pub(crate) fn replace(&mut self, sas: &[SaInfo]) {
        self.sas.clear();
        for sa in sas {
            self.add(sa);
        }
        let sas = &self.sas;
        self.reserved.retain(|id, _| sas.contains_key(id));
    }

    /// The kernel moved the SAs of these reqids.
    pub(crate) fn migrate(&mut self, migrate: &Migrate) {
        let moved = |id: &SaId, (src, reqid): &(IpAddr, Reqid)| {
            let step = migrate
                .steps
                .iter()
                .find(|step| step.reqid == *reqid && step.protocol == id.protocol && (step.old.src, step.old.dst) == (*src, id.dst))?;
            Some((SaId { dst: step.new.dst, ..*id }, step.new.src))
        };
        self.sas = std::mem::take(&mut self.sas)
            .into_iter()
            .map(|(id, known)| moved(&id, &known).map_or((id, known), |(id, src)| (id, (src, known.1))))
            .collect();
    }

    /// The kernel moved a tunnel of its policy and with it every SA of that reqid and direction, wherever it was. The end that stays
    /// tells the direction.
    pub(crate) fn follow(&mut self, template: &Template) {
        let Endpoints { src: new_src, dst: new_dst } = template.endpoints;
        let follows = |id: &SaId, (src, reqid): &(IpAddr, Reqid)| {
            *reqid == template.reqid && reqid.0 != 0 && Some(id.protocol) == template.protocol && (*src == new_src || id.dst == new_dst)
        };
        self.sas = std::mem::take(&mut self.sas)
            .into_iter()
            .map(|(id, known)| if follows(&id, &known) { (SaId { dst: new_dst, ..id }, (new_src, known.1)) } else { (id, known) })
            .collect();
    }
}
