//! The control socket: VICI over a UNIX socket that only its owner may use. One command at a time per connection; events flow
//! to connections that registered for them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, debug, o};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{RwLock, broadcast};
use watari_engine::vici::{Packet, Section, Value};
use watari_engine::{Command, Event, Reply};

use crate::events::control_event;

/// Events kept for a slow reader before it misses some.
const EVENT_BACKLOG: usize = 1024;
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a daemon that ends waits for a caller to take its answer.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// A command and where its answer goes.
pub(crate) struct Request {
    /// The command.
    pub(crate) command: Command,
    /// Takes the rows and the end of the answer.
    pub(crate) replies: UnboundedSender<Reply>,
}

/// The listening socket and what its connections share.
pub(crate) struct Control {
    path: PathBuf,
    /// Device and inode of the socket.
    identity: (u64, u64),
    requests: UnboundedReceiver<Request>,
    events: broadcast::Sender<(String, Section)>,
    /// Held for reading by every connection whose command is not answered yet.
    answering: Arc<RwLock<()>>,
}

impl Control {
    /// Listens. A socket left behind by a dead daemon is replaced; a live one, and whatever is no socket, is not.
    pub(crate) fn listen(path: &Path, log: &Logger) -> io::Result<Self> {
        clear(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let identity = identity(&fs::symlink_metadata(path)?);
        let (sender, requests) = unbounded_channel();
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let answering = Arc::new(RwLock::new(()));
        let shared = Shared { requests: sender, events: events.clone(), answering: Arc::clone(&answering) };
        tokio::spawn(accept(listener, shared, log.new(o!("part" => "control"))));
        Ok(Self { path: path.to_owned(), identity, requests, events, answering })
    }

    /// The next command.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        self.requests.recv().await
    }

    /// Tells connections that registered for it.
    pub(crate) fn publish(&self, event: &Event) {
        if self.events.receiver_count() > 0
            && let Some((name, section)) = control_event(event)
        {
            // Nobody listening is no error.
            let _ = self.events.send((name.to_owned(), section));
        }
    }

    /// Removes the socket and waits until every answer that was given is written.
    pub(crate) async fn close(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity) {
            // It may have been removed by hand this moment.
            let _ = fs::remove_file(&self.path);
        }
        // A caller that takes nothing is not waited for any longer.
        let _ = tokio::time::timeout(FLUSH_PATIENCE, self.answering.write()).await;
    }
}

/// Which file it is, whatever its name.
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Makes room for the socket: what a dead daemon left goes, everything else stays and is an error.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something is there that is no socket; it is left alone"));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "a daemon answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// What connections share.
struct Shared {
    requests: UnboundedSender<Request>,
    events: broadcast::Sender<(String, Section)>,
    answering: Arc<RwLock<()>>,
}

async fn accept(listener: UnixListener, shared: Shared, log: Logger) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Without descriptors (EMFILE) or memory the connection stays in the queue: later there may be some.
                debug!(log, "connection not accepted"; "error" => %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = Connection {
            stream,
            requests: shared.requests.clone(),
            events: shared.events.subscribe(),
            answering: Arc::clone(&shared.answering),
            registered: BTreeSet::new(),
        };
        let log = log.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.serve().await {
                debug!(log, "connection ended"; "error" => %error);
            }
        });
    }
}

struct Connection {
    stream: UnixStream,
    requests: UnboundedSender<Request>,
    events: broadcast::Receiver<(String, Section)>,
    answering: Arc<RwLock<()>>,
    registered: BTreeSet<String>,
}

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            while let Some((packet, used)) = Packet::decode_frame(&buffer).map_err(invalid)? {
                buffer.drain(..used);
                self.take(packet).await?;
            }
            tokio::select! {
                read = self.stream.read_buf(&mut buffer) => if read? == 0 { return Ok(()) },
                event = self.events.recv() => match event {
                    Ok((name, message)) => self.send_event(name, message).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
            }
        }
    }

    async fn take(&mut self, packet: Packet) -> io::Result<()> {
        match packet {
            Packet::Request { name, arguments } => self.command(name, arguments).await,
            Packet::Register(name) => {
                self.registered.insert(name);
                self.send(&Packet::Confirm).await
            }
            Packet::Unregister(name) => {
                let answer = if self.registered.remove(&name) { Packet::Confirm } else { Packet::UnknownEvent };
                self.send(&answer).await
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a client may not send this packet")),
        }
    }

    async fn command(&mut self, name: String, arguments: Section) -> io::Result<()> {
        let answering = Arc::clone(&self.answering);
        let _unanswered = answering.read().await;
        let (replies, mut answers) = unbounded_channel();
        let command = if name == "watari-status" { Command::Status } else { Command::Vici { name, arguments } };
        if self.requests.send(Request { command, replies }).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        while let Some(reply) = answers.recv().await {
            match reply {
                Reply::Row { event, section } => self.send_event(event.to_owned(), section).await?,
                Reply::End(message) => return self.send(&Packet::Response(message)).await,
                Reply::Json(text) => return self.send_json(&text).await,
                Reply::Unknown => return self.send(&Packet::UnknownCommand).await,
            }
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }

    async fn send_event(&mut self, name: String, message: Section) -> io::Result<()> {
        if self.registered.contains(&name) { self.send(&Packet::Event { name, content: message }).await } else { Ok(()) }
    }

    /// JSON text may be longer than a value: it goes as a list of pieces.
    async fn send_json(&mut self, text: &str) -> io::Result<()> {
        let pieces = text.as_bytes().chunks(usize::from(u16::MAX)).map(<[u8]>::to_vec).collect();
        let message = Section(vec![("json".to_owned(), Value::List(pieces))]);
        self.send(&Packet::Response(message)).await
    }

    async fn send(&mut self, packet: &Packet) -> io::Result<()> {
        self.stream.write_all(&packet.encode_frame().map_err(invalid)?).await
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slog::Discard;

    fn socket(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("watari-control-{name}-{}", std::process::id()))
    }

    async fn packet(stream: &mut UnixStream) -> Packet {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        let mut octets = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut octets).await.unwrap();
        Packet::decode(&octets).unwrap()
    }

    #[tokio::test]
    async fn a_command_reaches_the_loop_and_its_rows_come_back_before_the_end() {
        let path = socket("command");
        let mut control = Control::listen(&path, &Logger::root(Discard, o!())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "only the owner may steer the daemon");
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(&Packet::Register("list-sa".to_owned()).encode_frame().unwrap()).await.unwrap();
        assert_eq!(packet(&mut client).await, Packet::Confirm);
        let asked = Packet::Request { name: "list-sas".to_owned(), arguments: Section::new().with("ike", "ha") };
        client.write_all(&asked.encode_frame().unwrap()).await.unwrap();
        let request = control.request().await.unwrap();
        let Command::Vici { name, arguments } = request.command else { panic!("not a VICI command") };
        assert_eq!((name.as_str(), arguments.text("ike")), ("list-sas", Some("ha")));
        request.replies.send(Reply::Row { event: "list-sa", section: Section::new().with("state", "ESTABLISHED") }).unwrap();
        request.replies.send(Reply::Row { event: "list-conn", section: Section::new() }).unwrap();
        request.replies.send(Reply::End(Section::new().with("success", "yes"))).unwrap();
        let row = Packet::Event { name: "list-sa".to_owned(), content: Section::new().with("state", "ESTABLISHED") };
        assert_eq!(packet(&mut client).await, row, "and no row of an event that nobody registered for");
        assert_eq!(packet(&mut client).await, Packet::Response(Section::new().with("success", "yes")));
        control.close().await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_answer_is_written_before_the_daemon_ends() {
        let path = socket("flush");
        let mut control = Control::listen(&path, &Logger::root(Discard, o!())).unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        let asked = Packet::Request { name: "watari-stop".to_owned(), arguments: Section::new() };
        client.write_all(&asked.encode_frame().unwrap()).await.unwrap();
        let request = control.request().await.unwrap();
        request.replies.send(Reply::End(Section::new().with("success", "yes"))).unwrap();
        control.close().await;
        // Nothing of the daemon runs from here on.
        let mut client = client.into_std().unwrap();
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut length = [0; 4];
        std::io::Read::read_exact(&mut client, &mut length).unwrap();
    }

    #[tokio::test]
    async fn garbage_ends_its_connection_and_nothing_else() {
        let path = socket("garbage");
        let mut control = Control::listen(&path, &Logger::root(Discard, o!())).unwrap();
        let mut bad = UnixStream::connect(&path).await.unwrap();
        bad.write_all(&[0xff; 64]).await.unwrap();
        assert_eq!(bad.read(&mut [0; 8]).await.unwrap_or(0), 0, "the connection is closed");
        let mut good = UnixStream::connect(&path).await.unwrap();
        let asked = Packet::Request { name: "watari-status".to_owned(), arguments: Section::new() };
        good.write_all(&asked.encode_frame().unwrap()).await.unwrap();
        let request = control.request().await.unwrap();
        assert!(matches!(request.command, Command::Status));
        drop(request);
        control.close().await;
    }

    #[tokio::test]
    async fn a_live_socket_is_not_taken_over_and_a_dead_one_is() {
        let path = socket("live");
        let log = Logger::root(Discard, o!());
        let first = Control::listen(&path, &log).unwrap();
        let refused = Control::listen(&path, &log).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        first.close().await;
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Control::listen(&path, &log).is_ok(), "nobody listens on the file that is left");
        fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_removed() {
        let path = socket("file");
        let log = Logger::root(Discard, o!());
        fs::write(&path, "[mobile_node]").unwrap();
        let refused = Control::listen(&path, &log).err().unwrap();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[mobile_node]");
        let link = socket("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Control::listen(&link, &log).is_err() && link.exists());
        for left in [&path, &link] {
            fs::remove_file(left).unwrap();
        }
    }

    #[tokio::test]
    async fn an_end_removes_its_own_socket_and_no_other_file() {
        let path = socket("replaced");
        let log = Logger::root(Discard, o!());
        let first = Control::listen(&path, &log).unwrap();
        // Kept under another name, so that its inode is not given to the next file.
        let aside = socket("aside");
        fs::rename(&path, &aside).unwrap();
        let second = Control::listen(&path, &log).unwrap();
        first.close().await;
        assert!(path.exists(), "the socket of another daemon stays");
        second.close().await;
        assert!(!path.exists());
        fs::remove_file(&aside).unwrap();
    }
}
