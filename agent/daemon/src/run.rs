//! The event loop: descriptors to inputs, outputs to descriptors. It decides nothing.
//! Invariant: after every `Agent::handle` the agent is polled until it waits.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, error, info, warn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use watari_crypto::RustCryptoProvider;
use watari_engine::{Agent, AgentOptions, Command, CommandId, Event, Input, Listen, Output, Reply};
use watari_kernel::MigrateSource;
use watari_policies::config::Loaded;
use watari_policies::model::Settings;
use watari_sa::{KeyingEvent, WorkDone, WorkId};

use crate::clock;
use crate::control::{Control, Request};
use crate::drops::Drops;
use crate::keeper::KeyKeeper;
use crate::kernel::Kernel;
use crate::log::log_event;
use crate::mobility::MobilitySockets;
use crate::sockets::IkeSockets;
use crate::start::{self, Failure};

/// Suspended time does not pass for the runtime's timers: look at the clock at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// Datagrams taken before the kernel's events get their turn.
const DATAGRAM_BATCH: usize = 32;
/// How long a polite end may take.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);
/// The shutdown command has no caller on the control socket.
const OWN_COMMAND: CommandId = CommandId(0);

/// What the event loop was started with.
pub(crate) struct Setup {
    /// Where the configuration is read again at `reload`.
    pub(crate) config_file: PathBuf,
    /// The configuration.
    pub(crate) loaded: Loaded,
    /// Path of the control socket.
    pub(crate) control: PathBuf,
    /// Seed of the engine.
    pub(crate) seed: [u8; 32],
    /// File for revealed keys.
    pub(crate) reveal_keys: Option<PathBuf>,
}

/// The daemon between start and end.
pub(crate) struct Daemon {
    agent: Agent,
    kernel: Kernel,
    sockets: IkeSockets,
    mobility: MobilitySockets,
    keeper: KeyKeeper,
    work_done: UnboundedReceiver<(WorkId, WorkDone)>,
    control: Control,
    callers: BTreeMap<CommandId, tokio::sync::mpsc::UnboundedSender<Reply>>,
    next_command: u64,
    pending: VecDeque<Input>,
    deadline: Option<Duration>,
    config_file: PathBuf,
    /// What was read at the start and holds until the end.
    started_with: Settings,
    reveal_keys: Option<PathBuf>,
    ending: Option<Duration>,
    drops: Drops,
    log: Logger,
}

impl Daemon {
    /// Opens every descriptor and builds the agent. Nothing has been sent yet.
    pub(crate) async fn start(setup: Setup, log: Logger) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        let mut warn_later = |text: String| warnings.push(text);
        start::raise_descriptor_limit().unwrap_or_else(&mut warn_later);
        let sockets = IkeSockets::open(&setup.loaded.config.settings, &mut warn_later).map_err(|error| Failure::socket(&error))?;
        let backend = setup.loaded.config.settings.backend;
        let mut kernel = Kernel::open(clock::now(), backend, &mut warn_later).map_err(|error| Failure::kernel(&error))?;
        for text in warnings {
            warn!(log, "{}", text);
        }
        let pending = start::await_probe(&mut kernel).await.into();
        start::report_kernel(kernel.capabilities(), &log);
        let notes = start::check_proposals(&setup.loaded.config, kernel.capabilities()).map_err(Failure::configuration)?;
        for note in notes {
            warn!(log, "not every proposal is offered as written"; "record" => note);
        }
        let (results, work_done) = unbounded_channel();
        let provider = Arc::new(RustCryptoProvider);
        let keeper = KeyKeeper::start(Arc::clone(&provider) as _, setup.loaded.secrets, &results);
        let migrate_from = (!kernel.netlink_migrate).then_some(MigrateSource::PfKey);
        let options = AgentOptions { reveal_keys: setup.reveal_keys.is_some(), migrate_from };
        let started_with = setup.loaded.config.settings.clone();
        let agent = Agent::new(setup.loaded.config, setup.seed, provider, kernel.capabilities().clone(), options);
        let control = Control::listen(&setup.control, &log).map_err(|error| Failure::control(&setup.control, &error))?;
        Ok(Self {
            agent,
            kernel,
            sockets,
            mobility: MobilitySockets::default(),
            keeper,
            work_done,
            control,
            callers: BTreeMap::new(),
            next_command: OWN_COMMAND.0,
            pending,
            deadline: None,
            config_file: setup.config_file,
            started_with,
            reveal_keys: setup.reveal_keys,
            drops: Drops::default(),
            ending: None,
            log,
        })
    }

    /// Runs until a signal or the operator ends it.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        self.pending.push_back(Input::Timeout);
        self.settle();
        while !self.ended() {
            let sleep = self.sleep();
            tokio::select! {
                ready = self.kernel.readable() => {
                    ready?;
                    self.read_kernel();
                }
                ready = self.mobility.readable() => {
                    ready?;
                    self.read_kernel();
                }
                datagram = self.sockets.receive() => self.take_datagrams(datagram?),
                Some((id, done)) = self.work_done.recv() => self.pending.push_back(Input::WorkDone(id, done)),
                Some(request) = self.control.request() => self.take_request(request),
                () = tokio::time::sleep(sleep) => {
                    self.kernel.timeout(clock::now());
                    self.pending.push_back(Input::Timeout);
                }
                _ = terminate.recv() => self.begin_end("SIGTERM"),
                _ = interrupt.recv() => self.begin_end("SIGINT"),
                _ = hangup.recv() => {
                    // What is wrong with the file has been logged.
                    let _ = self.reload();
                }
            }
            self.settle();
        }
        // Whoever still waits for an SA to come or go gets no answer any more.
        self.callers.clear();
        self.control.close().await;
        Ok(())
    }

    fn sleep(&self) -> Duration {
        let now = clock::now().boot;
        let until = [self.deadline, self.ending].into_iter().flatten().min();
        until.map_or(LONGEST_SLEEP, |at| at.saturating_sub(now)).min(LONGEST_SLEEP)
    }

    fn ended(&self) -> bool {
        self.ending.is_some_and(|at| clock::now().boot >= at)
    }

    fn begin_end(&mut self, why: &str) {
        info!(self.log, "ending"; "why" => why);
        self.ending.get_or_insert(clock::now().boot.saturating_add(SHUTDOWN_PATIENCE));
        self.pending.push_back(Input::Command(OWN_COMMAND, Command::Shutdown));
    }

    fn read_kernel(&mut self) {
        let mut inputs = Vec::new();
        self.kernel.read(clock::now(), &mut inputs);
        // A binding update was in its socket's queue before the MIGRATE that it caused was in the kernel's: read after that one, and
        // taken before it.
        self.pending.extend(self.mobility.read());
        self.pending.extend(inputs);
    }

    fn listen(&mut self, sockets: &[Listen]) {
        let log = &self.log;
        let opened = self.mobility.listen(sockets, &mut |text| warn!(log, "{}", text));
        self.pending.extend(opened);
    }

    fn take_datagrams(&mut self, first: watari_sa::Datagram) {
        self.pending.push_back(Input::Datagram(first));
        for _ in 1..DATAGRAM_BATCH {
            let Some(datagram) = self.sockets.receive_ready() else { return };
            self.pending.push_back(Input::Datagram(datagram));
        }
    }

    fn take_request(&mut self, request: Request) {
        self.next_command = self.next_command.saturating_add(1);
        let id = CommandId(self.next_command);
        let command = match request.command {
            Command::Vici { name, .. } if name == "reload-settings" || name == "watari-reload" => {
                let reply = self.reload().map_or_else(
                    |text| start::failed(&text),
                    |unapplied| match unapplied.as_str() {
                        "" => start::succeeded(),
                        text => start::succeeded().with("message", text),
                    },
                );
                // The caller may have gone; then nobody misses the answer.
                let _ = request.replies.send(Reply::End(reply));
                return;
            }
            Command::Vici { name, .. } if name == "watari-stop" => {
                self.begin_end("operator");
                let _ = request.replies.send(Reply::End(start::succeeded()));
                return;
            }
            Command::Vici { name, .. } if name == "watari-kernel" => {
                let _ = request.replies.send(Reply::End(start::kernel_section(self.kernel.capabilities())));
                return;
            }
            command => command,
        };
        self.callers.insert(id, request.replies);
        self.pending.push_back(Input::Command(id, command));
    }

    /// Reads the configuration again; in words what of it waits for a restart. A wrong one changes nothing.
    fn reload(&mut self) -> Result<String, String> {
        let checked = start::load(&self.config_file).and_then(|loaded| {
            start::check_proposals(&loaded.config, self.kernel.capabilities())?;
            Ok(loaded)
        });
        match checked {
            Ok(mut loaded) => {
                info!(self.log, "configuration read again");
                let unapplied = start::waits_for_restart(&self.started_with, &loaded.config.settings);
                for text in &unapplied {
                    warn!(self.log, "{}", text);
                }
                self.keeper.replace_secrets(&mut loaded);
                self.next_command = self.next_command.saturating_add(1);
                self.pending.push_back(Input::Command(CommandId(self.next_command), Command::Reload(Box::new(loaded.config))));
                Ok(unapplied.join("\n"))
            }
            Err(text) => {
                error!(self.log, "the configuration is wrong and was not taken"; "complaints" => &text);
                Err(text)
            }
        }
    }

    /// Feeds what is pending and drains agent and kernel until both wait.
    fn settle(&mut self) {
        loop {
            let mut inputs = Vec::new();
            let kernel_deadline = self.kernel.drain(clock::now(), &mut inputs);
            self.pending.extend(inputs);
            let Some(input) = self.pending.pop_front() else {
                self.deadline = [self.deadline, kernel_deadline].into_iter().flatten().min();
                return;
            };
            self.agent.handle(clock::now(), input);
            self.poll_agent();
        }
    }

    fn poll_agent(&mut self) {
        loop {
            match self.agent.poll() {
                Output::Transmit(transmit) => {
                    if let Err((why, error)) = self.sockets.send(&transmit) {
                        slog::debug!(self.log, "datagram not sent"; "path" => %transmit.path, "error" => %error);
                        self.pending.push_back(Input::Undeliverable(transmit.id, why));
                    }
                }
                Output::Kernel(id, request) => self.kernel.submit(clock::now(), id, request),
                Output::Work(id, work) => {
                    if !self.keeper.submit(id, work) {
                        self.begin_end("the key keeper has died");
                    }
                }
                Output::Listen(sockets) => self.listen(&sockets),
                Output::Event(event) => self.tell(&event),
                Output::Reply(id, reply) => self.answer(id, reply),
                Output::Wait(deadline) => {
                    self.deadline = deadline.map(|deadline| deadline.at);
                    return;
                }
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        if let Event::Keying(KeyingEvent::Keys { line }) = event {
            if let Some(Err(error)) = self.reveal_keys.as_deref().map(|file| start::append_line(file, line)) {
                warn!(self.log, "keys could not be written"; "error" => %error);
            }
            return;
        }
        let now = clock::now().boot;
        for (code, count) in self.drops.summary(now) {
            warn!(self.log, "{} more packets were dropped for the same reason", count; "code" => code);
        }
        let write = match event {
            Event::Keying(KeyingEvent::Dropped { path, cause, .. }) => self.drops.write(now, cause.code, path.remote.ip()),
            _ => true,
        };
        if write {
            log_event(&self.log, event);
        }
        self.control.publish(event);
    }

    fn answer(&mut self, id: CommandId, reply: Reply) {
        let last = !matches!(reply, Reply::Row { .. });
        if last && id == OWN_COMMAND {
            self.ending = Some(Duration::ZERO);
        }
        if let Some(caller) = self.callers.get(&id) {
            // The caller may have gone; then nobody misses the answer.
            let _ = caller.send(reply);
        }
        if last {
            self.callers.remove(&id);
        }
    }
}
