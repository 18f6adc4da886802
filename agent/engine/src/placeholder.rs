//! Stands where IKEv2 will stand until that crate has its module.

use watari_kernel::KmAddress;
use watari_policies::RemoteId;
use watari_sa::{Action, Context, Deadline, IkeId, IkeStatus, Keying, KeyingInput, Target, Want};

pub(crate) struct Placeholder;

impl Keying for Placeholder {
    fn handle(&mut self, _: &mut Context<'_>, _: KeyingInput) {}
    fn poll(&mut self) -> Option<Action> {
        None
    }
    fn deadline(&self) -> Option<Deadline> {
        None
    }
    fn want(&mut self, _: &mut Context<'_>, _: Want) {}
    fn rekey(&mut self, _: &mut Context<'_>, _: Target) {}
    fn close(&mut self, _: &mut Context<'_>, _: Target) {}
    fn retarget(&mut self, _: &mut Context<'_>, _: IkeId, _: KmAddress) {}
    fn probe(&mut self, _: &mut Context<'_>, _: IkeId) {}
    fn forget(&mut self, _: &mut Context<'_>, _: IkeId) {}
    fn ike_sas_of(&self, _: RemoteId) -> Vec<IkeId> {
        Vec::new()
    }
    fn status(&self, _: IkeId) -> Option<IkeStatus> {
        None
    }
    fn statuses(&self) -> Vec<IkeStatus> {
        Vec::new()
    }
}
