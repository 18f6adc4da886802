//! What an IPsec kernel can be asked and what it reports, in words common to every back end.
//! No I/O: a `Backend` turns requests into bytes for a descriptor and bytes into events; the runner moves the bytes.

pub mod backend;
pub mod errno;
pub mod event;
pub mod mirror;
pub mod probe;
pub mod request;
pub mod resync;
pub mod sa;
pub mod source;
pub mod spd;
pub mod table;
pub mod time;

pub use backend::{Backend, BackendOutput, Capability, Channel, RequestId};
pub use event::{
    Acquire, AddressEvent, AddressFlags, Expire, KernelEvent, KmAddress, LinkEvent, Migrate, MigrateSource, MigrateStep, RouteEvent,
};
pub use request::{KernelError, KernelReply, KernelRequest};
pub use sa::{Encapsulation, Endpoints, SaId, SaInfo, SaKeys, SaLifetime, SaParameters, Spi};
pub use spd::{PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};
pub use time::Now;
