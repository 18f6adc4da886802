//! KAME's PF_KEY sockets over the mirror: requests are taken, answered and announced in octets as netkey/key.c does it, to the asker, to
//! registered sockets or to all. Invariant: what the key manager learns of this kernel, it learns from octets.

mod layout;
mod policies;
mod sas;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use watari_kernel::mirror::{MigrateRequest, Mirror, Rebound};
use watari_kernel::{Backend, BackendOutput, KernelError, KernelEvent, KernelReply, KernelRequest, Now, RequestId, SaId};

use layout::{EINVAL, Head, Part, Request, ext, kind};

/// errno of what is not there.
const ENOENT: u8 = 2;
/// errno of what is there already.
const EEXIST: u8 = 17;
/// errno of what the kernel has no handler for.
const NO_HANDLER: u8 = EINVAL;
/// The process that writes the policies, as setkey and SHISA's daemons do.
const SOMEBODY: u32 = 77;

/// One PF_KEY socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeySocket(u32);

#[derive(Debug, Default)]
struct Open {
    /// The types of SA that it is registered for.
    registered: BTreeSet<u8>,
    inbox: VecDeque<Vec<u8>>,
}

/// Who gets a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// KEY_SENDUP_ONE: whoever asked.
    One(KeySocket),
    /// KEY_SENDUP_REGISTERED, and whoever asked.
    Registered(Option<KeySocket>),
    /// KEY_SENDUP_ALL.
    All,
}

/// A reserved SPI that waits for its keys.
#[derive(Clone, Copy, Debug)]
struct Larval {
    src: std::net::IpAddr,
    reqid: u32,
    seq: u32,
    pid: u32,
}

/// The PF_KEY side of a KAME kernel; the tables are the mirror's, which every call is given.
#[derive(Debug)]
pub struct KameKernel {
    sockets: BTreeMap<KeySocket, Open>,
    opened: u32,
    larval: BTreeMap<SaId, Larval>,
    /// What an SA was added with and the mirror does not keep, by protocol and SPI.
    details: BTreeMap<(u8, u32), Vec<Part>>,
    next_reqid: u16,
    /// Whether ACQUIRE carries the packet (kernel option PFKEYV2_SADB_X_EXT_PACKET).
    copies_packets: bool,
    /// What the mirror told and PF_KEY has no words for.
    others: Vec<KernelEvent>,
}

impl KameKernel {
    /// A kernel nobody has opened a socket of; `copies_packets` if it was built with PFKEYV2_SADB_X_EXT_PACKET.
    #[must_use]
    pub const fn new(copies_packets: bool) -> Self {
        Self {
            sockets: BTreeMap::new(),
            opened: 0,
            larval: BTreeMap::new(),
            details: BTreeMap::new(),
            // Behind IPSEC_MANUAL_REQID_MAX.
            next_reqid: 0x4000,
            copies_packets,
            others: Vec::new(),
        }
    }

    /// socket(PF_KEY, SOCK_RAW, PF_KEY_V2).
    pub fn open(&mut self) -> KeySocket {
        self.opened = self.opened.saturating_add(1);
        let socket = KeySocket(self.opened);
        self.sockets.insert(socket, Open::default());
        socket
    }

    /// What a socket is to read next.
    pub fn read(&mut self, socket: KeySocket) -> Option<Vec<u8>> {
        self.sockets.get_mut(&socket).and_then(|open| open.inbox.pop_front())
    }

    /// A message that a socket writes.
    pub fn write(&mut self, mirror: &mut Mirror, now: Now, socket: KeySocket, octets: &[u8]) {
        self.hear(mirror);
        let done = Request::read(octets).and_then(|request| self.handle(mirror, now, socket, &request));
        if let Err(errno) = done {
            // key_senderror(): the message itself, with the error.
            let mut refused = octets.to_vec();
            if let Some(octet) = refused.get_mut(2) {
                *octet = errno;
            }
            self.send(To::One(socket), &refused);
        }
    }

    /// A binding changed in this kernel: it moves the tunnel and tells registered sockets.
    ///
    /// # Errors
    /// As `Mirror::rebind`.
    pub fn rebind(&mut self, mirror: &mut Mirror, request: &MigrateRequest, tells: Rebound) -> Result<(), KernelError> {
        self.hear(mirror);
        mirror.rebind(request, tells)?;
        while let BackendOutput::Event(event) = mirror.poll() {
            match event {
                KernelEvent::PolicyChanged(policy) => {
                    let head = Head { kind: kind::SPDUPDATE, ..Head::default() };
                    self.announce_policy(To::Registered(None), head, &policy, policies::Order::Dump);
                }
                event => self.tell(mirror, event),
            }
        }
        Ok(())
    }

    /// Takes what the mirror reports to the sockets that hear it; gives back what is no matter of PF_KEY, and when the mirror wants to be
    /// called.
    pub fn announce(&mut self, mirror: &mut Mirror) -> (Vec<KernelEvent>, Option<Duration>) {
        let deadline = self.hear(mirror);
        (std::mem::take(&mut self.others), deadline)
    }

    fn hear(&mut self, mirror: &mut Mirror) -> Option<Duration> {
        loop {
            match mirror.poll() {
                BackendOutput::Event(event) => self.tell(mirror, event),
                BackendOutput::Wait(deadline) => return deadline,
                BackendOutput::Send(..) | BackendOutput::Done(..) => {}
            }
        }
    }

    fn send(&mut self, to: To, octets: &[u8]) {
        for (socket, open) in &mut self.sockets {
            let hears = match to {
                To::One(asker) => asker == *socket,
                To::Registered(asker) => asker == Some(*socket) || !open.registered.is_empty(),
                To::All => true,
            };
            if hears {
                open.inbox.push_back(octets.to_vec());
            }
        }
    }

    /// A request of the mirror, which answers at once.
    fn ask(&mut self, mirror: &mut Mirror, now: Now, request: KernelRequest) -> Result<KernelReply, u8> {
        mirror.submit(now, RequestId(0), request);
        loop {
            match mirror.poll() {
                BackendOutput::Done(_, result) => {
                    return result.map_err(|error| u8::try_from(error.errno).unwrap_or(EINVAL));
                }
                BackendOutput::Event(event) => self.tell(mirror, event),
                BackendOutput::Send(..) | BackendOutput::Wait(_) => return Err(EINVAL),
            }
        }
    }

    fn handle(&mut self, mirror: &mut Mirror, now: Now, socket: KeySocket, request: &Request) -> Result<(), u8> {
        match request.kind {
            kind::REGISTER => self.register(socket, request),
            kind::GETSPI => self.getspi(mirror, now, socket, request),
            kind::UPDATE => self.update(mirror, now, request),
            kind::ADD => self.add(mirror, now, request),
            kind::DELETE => self.delete(mirror, now, request),
            kind::GET => self.get(mirror, socket, request),
            kind::DUMP => self.dump(mirror, socket, request),
            kind::FLUSH => {
                mirror.quietly(Mirror::flush_sas);
                self.larval.clear();
                self.details.clear();
                self.send(To::All, &Head::answer(request).message(&[]));
                Ok(())
            }
            // key_acquire2(): an error of the key manager is never answered; a request to negotiate is not for this mirror.
            kind::ACQUIRE if request.parts.is_empty() => {
                mirror.forget_acquire(now, request.seq);
                Ok(())
            }
            kind::SPDADD | kind::SPDUPDATE => self.spdadd(mirror, request),
            kind::SPDDELETE => self.spddelete(mirror, request),
            kind::SPDGET => self.spdget(mirror, socket, request),
            kind::SPDDUMP => self.spddump(mirror, socket, request),
            kind::SPDFLUSH => {
                mirror.quietly(Mirror::flush_policies);
                self.send(To::All, &Head::answer(request).message(&[]));
                Ok(())
            }
            // No user moves a policy here: the kernel does it itself, and the entry for SADB_X_MIGRATE is empty.
            _ => Err(NO_HANDLER),
        }
    }

    fn register(&mut self, socket: KeySocket, request: &Request) -> Result<(), u8> {
        let open = self.sockets.get_mut(&socket).ok_or(EINVAL)?;
        if request.satype != 0 && !open.registered.insert(request.satype) {
            return Err(EEXIST);
        }
        let list = |rows: &[[u16; 4]]| {
            let mut octets = vec![0; 4];
            for [id, iv, min, max] in rows {
                octets.extend([u8::try_from(*id).unwrap_or(0), u8::try_from(*iv).unwrap_or(0)]);
                octets.extend(min.to_ne_bytes());
                octets.extend(max.to_ne_bytes());
                octets.extend([0; 2]);
            }
            octets
        };
        let auth = list(&[[2, 0, 128, 128], [3, 0, 160, 160], [5, 0, 256, 256]]);
        let encrypt = list(&[[2, 8, 64, 64], [3, 8, 192, 192], [11, 0, 0, 2048], [12, 16, 128, 256]]);
        let octets = Head::answer(request).message(&[(ext::SUPPORTED_AUTH, auth), (ext::SUPPORTED_ENCRYPT, encrypt)]);
        self.send(To::Registered(Some(socket)), &octets);
        Ok(())
    }
}
