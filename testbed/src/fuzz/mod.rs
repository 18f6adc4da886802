//! Generated input for everything that reads what others wrote. A target panics or says what is wrong; the seed is printed.
//! Runs for seconds inside `check`, for minutes with `--long`.

mod codecs;
mod engine;
mod generator;

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use generator::Generator;

/// Feeds one generated input; the error says what is wrong.
type Call = Box<dyn FnMut(&mut Generator) -> Result<(), String>>;

/// A fuzz target.
struct Target {
    name: &'static str,
    make: fn() -> Call,
}

const TARGETS: &[Target] = &[
    Target { name: "ikev2-decode", make: codecs::ikev2 },
    Target { name: "xfrm-decode", make: codecs::xfrm },
    Target { name: "pfkey-decode", make: codecs::pfkey },
    Target { name: "rtnetlink-decode", make: codecs::route },
    Target { name: "rtsock-decode", make: codecs::routing_socket },
    Target { name: "mobility-header-decode", make: codecs::mobility_header },
    Target { name: "vici-decode", make: codecs::vici },
    Target { name: "configuration", make: codecs::configuration },
    Target { name: "engine-sequences", make: engine::sequences },
];

/// Runs every target for `seconds`, as many at once as there are processors; true if none found anything.
pub(crate) fn run(seconds: u64, seed: u64) -> Result<bool, String> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(TARGETS.len());
    let rounds = u64::try_from(TARGETS.len().div_ceil(workers)).unwrap_or(u64::MAX);
    println!("fuzz: {} targets, {seconds} s each, {workers} at a time: {} s", TARGETS.len(), rounds.saturating_mul(seconds));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut sound = true;
        while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
            sound &= one(target, Duration::from_secs(seconds), seed);
        }
        sound
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().map_err(|_| "a fuzzer itself panicked".to_owned()));
        ended.collect::<Result<Vec<_>, _>>().map(|sound| sound.into_iter().all(|sound| sound))
    })
}

/// Runs one target; true if it found nothing.
fn one(target: &Target, time: Duration, seed: u64) -> bool {
    let begin = Instant::now();
    let mut generator = Generator::new(seed);
    let mut call = (target.make)();
    let mut inputs = 0_u64;
    let mut fault = None;
    while begin.elapsed() < time && fault.is_none() {
        fault = match catch_unwind(AssertUnwindSafe(|| call(&mut generator))) {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("panicked (see above)".to_owned()),
        };
        inputs += 1;
    }
    match &fault {
        None => println!("fuzz {:<24} {inputs} inputs, nothing found (seed {seed})", target.name),
        Some(why) => println!("fuzz {:<24} input {inputs} of seed {seed}: {why}", target.name),
    }
    fault.is_none()
}
