//! Binding updates that come through the tunnel SA that they move, from an address that the SA does not know yet (RFC 4877 5).
//! Counted before the Mobile IPv6 daemon hears of them; in the end the SA must be where the last one came from.

use watari_kernel::SaInfo;
use watari_kernel::mirror::{Body, Inner, Packet};
use watari_policies::Mode;
use watari_policies::selector::MOBILITY_HEADER;

use super::World;
use super::host::Role;

/// Mobility Header type of a binding update.
const UPDATE: u16 = 5;

impl World<'_> {
    /// From now on every kernel drops what comes through a tunnel from another source than the SA's, as Linux does not.
    pub fn compare_outer_sources(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.mirror.compare_outer_source());
    }

    /// A packet was delivered and nobody has acted on it.
    pub(super) fn note_elsewhere(&mut self, host: usize, wire: &Packet, delivered: &Packet) {
        let Some(this) = self.hosts.get(host).filter(|host| matches!(host.role, Role::HomeAgent)) else { return };
        let (Some(upper), Body::Esp(esp)) = (delivered.upper(), &wire.body) else { return };
        if (upper.protocol, upper.sport) != (MOBILITY_HEADER, UPDATE) || !matches!(*esp.inner, Inner::Tunnel(_)) {
            return;
        }
        let stands = |sa: &SaInfo| sa.spi == esp.spi && sa.dst == wire.dst && sa.mode == Some(Mode::Tunnel) && sa.src != wire.src;
        let found = (esp.spi, wire.src);
        if this.mirror.sas().iter().any(stands) && !self.elsewhere.contains(&found) {
            self.elsewhere.push(found);
        }
    }

    /// What is wrong about such binding updates, in words.
    pub(super) fn judge_elsewhere(&self) -> Vec<String> {
        let expected = self.scenario.expect.updates_from_elsewhere;
        let mut wrong = Vec::new();
        let found = self.elsewhere.len();
        if found != expected {
            wrong.push(format!("{found} binding updates came through the tunnel that they move, {expected} expected"));
        }
        let sas: Vec<SaInfo> =
            self.hosts.iter().filter(|host| matches!(host.role, Role::HomeAgent)).flat_map(|host| host.mirror.sas()).collect();
        if let Some((spi, source)) = self.elsewhere.last()
            && !sas.iter().any(|sa| sa.spi == *spi && sa.src == *source)
        {
            wrong.push(format!("the tunnel SA {spi} has not followed the binding update from {source}"));
        }
        wrong
    }
}
