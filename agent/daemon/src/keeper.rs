//! The key keeper: threads that do public-key work and hold the long-term secrets, so that neither stalls nor enters the engine.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use tokio::sync::mpsc::UnboundedSender;
use watari_crypto::Provider;
use watari_policies::config::Loaded;
use watari_policies::{Secret, SecretId};
use watari_sa::work::perform;
use watari_sa::{Work, WorkDone, WorkId};

/// Hands work to as many threads as there are processors.
pub(crate) struct KeyKeeper {
    jobs: Sender<(WorkId, Work)>,
    secrets: Arc<RwLock<BTreeMap<SecretId, Secret>>>,
}

impl KeyKeeper {
    /// Starts the threads; results go to `results`.
    pub(crate) fn start(
        provider: Arc<dyn Provider>,
        secrets: BTreeMap<SecretId, Secret>,
        results: &UnboundedSender<(WorkId, WorkDone)>,
    ) -> Self {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let secrets = Arc::new(RwLock::new(secrets));
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let worker = Worker {
                queue: Arc::clone(&queue),
                provider: Arc::clone(&provider),
                secrets: Arc::clone(&secrets),
                results: results.clone(),
            };
            thread::spawn(move || worker.run());
        }
        Self { jobs, secrets }
    }

    /// Queues a piece of work. It is lost only if every thread has died, which ends the daemon.
    pub(crate) fn submit(&self, id: WorkId, work: Work) -> bool {
        self.jobs.send((id, work)).is_ok()
    }

    /// Takes the secrets of a new configuration, whose numbers are settled after those it holds.
    pub(crate) fn replace_secrets(&self, loaded: &mut Loaded) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        loaded.renumber(&secrets);
        *secrets = std::mem::take(&mut loaded.secrets);
    }
}

struct Worker {
    queue: Arc<Mutex<Receiver<(WorkId, Work)>>>,
    provider: Arc<dyn Provider>,
    secrets: Arc<RwLock<BTreeMap<SecretId, Secret>>>,
    results: UnboundedSender<(WorkId, WorkDone)>,
}

impl Worker {
    fn run(&self) {
        loop {
            let job = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((id, work)) = job else { return };
            let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
            let done = perform(&*self.provider, &*secrets, work);
            drop(secrets);
            if self.results.send((id, done)).is_err() {
                return;
            }
        }
    }
}
