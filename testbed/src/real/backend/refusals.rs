//! What a kernel says when it refuses: its own words (extended acknowledgement) reach whoever asked.

use watari_kernel::{Encapsulation, KernelRequest, Template};
use watari_policies::algorithm::{Cipher, Integrity};
use watari_policies::{Direction, Mode, Protocol, Reqid};

use super::world::{HA, HOA, World, add, between, ends, host, policy, sa};
use crate::uml::Result;

/// A transport template of another family than its policy, and AH inside UDP.
pub(super) fn words(world: &mut World) -> Result<()> {
    let template = Template::esp(Mode::Transport, Reqid(1), ends("192.0.2.1", "192.0.2.2"));
    let refused = world.ask(KernelRequest::SetPolicy(policy(between(&host(HOA), &host(HA)), Direction::Out, 2, vec![template])))?;
    let says = |words: &str, text: &str| text.contains(words);
    let good = refused.as_ref().is_err_and(|error| error.errno == 22 && says("family change", &error.to_string()));
    world.check("a refused policy: the kernel's own words", good, refused);
    let mut wrapped = sa(Cipher::NULL, Some(Integrity::HmacSha256_128), false, Mode::Transport, (HOA, HA), 0x6001);
    wrapped.id.protocol = Protocol::Ah;
    wrapped.encapsulation = Some(Encapsulation { source_port: 4500, destination_port: 4500 });
    let refused = world.ask(add(&wrapped))?;
    let good =
        refused.as_ref().is_err_and(|error| error.errno == 22 && says("AH is not compatible with encapsulation", &error.to_string()));
    world.check("a refused SA: the kernel's own words", good, refused);
    let left = (world.policies()?, world.query(wrapped.id)?);
    world.check("what was refused is not there", left.0.is_empty() && left.1.is_none(), left);
    Ok(())
}
