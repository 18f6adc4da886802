//! A VICI client over the daemon's UNIX socket: one command at a time, rows of streamed answers collected.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use watari_engine::vici::{MAX_PACKET, Packet, Section, Value};

/// A command that waits for a negotiation may take this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to the daemon.
pub(crate) struct Client(UnixStream);

/// What a command gave: its rows, then its end.
pub(crate) struct Answer {
    /// Rows of a streamed answer, with their event names.
    pub(crate) rows: Vec<(String, Section)>,
    /// The end of the answer.
    pub(crate) end: Section,
}

impl Client {
    /// Connects; the error names the socket and what to do.
    pub(crate) fn connect(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| {
            format!("cannot reach watarid at {}: {error}\n  Is it running? `--control` names its socket.", socket.display())
        })?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        Ok(Self(stream))
    }

    /// Registers for an event, so that streamed rows of that name arrive.
    pub(crate) fn register(&mut self, event: &str) -> Result<(), String> {
        self.send(&Packet::Register(event.to_owned()))?;
        match self.receive()? {
            Packet::Confirm => Ok(()),
            _ => Err(format!("the daemon does not know the event `{event}`")),
        }
    }

    /// Runs a command to its end.
    pub(crate) fn command(&mut self, name: &str, arguments: Vec<(String, Value)>) -> Result<Answer, String> {
        self.send(&Packet::Request { name: name.to_owned(), arguments: Section(arguments) })?;
        let mut rows = Vec::new();
        loop {
            match self.receive()? {
                Packet::Event { name, content } => rows.push((name, content)),
                Packet::Response(end) => return Ok(Answer { rows, end }),
                Packet::UnknownCommand => return Err(format!("the daemon does not know the command `{name}`")),
                _ => return Err("the daemon answered with an unexpected packet".to_owned()),
            }
        }
    }

    /// Says something whose answer may be the end of the connection.
    pub(crate) fn command_or_end(&mut self, name: &str) -> Result<(), String> {
        self.send(&Packet::Request { name: name.to_owned(), arguments: Section(Vec::new()) })?;
        let mut answer = Vec::new();
        match self.0.read_to_end(&mut answer) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    /// The next event, for `watch`. Waits without limit.
    pub(crate) fn event(&mut self) -> Result<(String, Section), String> {
        self.0.set_read_timeout(None).map_err(|error| error.to_string())?;
        match self.receive()? {
            Packet::Event { name, content } => Ok((name, content)),
            _ => Err("the daemon sent an unexpected packet".to_owned()),
        }
    }

    fn send(&mut self, packet: &Packet) -> Result<(), String> {
        let frame = packet.encode_frame().map_err(|error| error.to_string())?;
        self.0.write_all(&frame).map_err(lost)
    }

    fn receive(&mut self) -> Result<Packet, String> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(lost)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PACKET {
            return Err("the daemon sent a packet over 512 KiB".to_owned());
        }
        let mut octets = vec![0; length];
        self.0.read_exact(&mut octets).map_err(lost)?;
        Packet::decode(&octets).map_err(|error| error.to_string())
    }
}

fn lost(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("the daemon did not answer within {} s", PATIENCE.as_secs()),
        _ => format!("the connection to the daemon broke: {error}"),
    }
}

/// A scalar argument.
pub(crate) fn scalar(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), Value::Scalar(value.as_bytes().to_vec()))
}

/// The JSON text of a `watari-status` answer.
pub(crate) fn json(section: &Section) -> Option<String> {
    section.0.iter().find_map(|(key, value)| match value {
        Value::List(pieces) if key == "json" => Some(String::from_utf8_lossy(&pieces.concat()).into_owned()),
        _ => None,
    })
}
