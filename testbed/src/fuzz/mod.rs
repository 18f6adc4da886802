//! Generated input for everything that reads what others wrote. A target panics or says what is wrong; the seed is printed.
//! Runs for seconds inside `check`, for minutes with `--long`.

mod codecs;
mod engine;
mod generator;

use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Runs every target for `seconds`; true if none found anything.
pub(crate) fn run(seconds: u64, seed: u64) -> Result<bool, String> {
    let mut sound = true;
    for target in TARGETS {
        let begin = Instant::now();
        let mut generator = Generator::new(seed);
        let mut call = (target.make)();
        let mut inputs = 0_u64;
        let mut fault = None;
        while begin.elapsed() < Duration::from_secs(seconds) && fault.is_none() {
            fault = match catch_unwind(AssertUnwindSafe(|| call(&mut generator))) {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some("panicked (see above)".to_owned()),
            };
            inputs += 1;
        }
        match fault {
            None => println!("fuzz {:<24} {inputs} inputs, nothing found (seed {seed})", target.name),
            Some(why) => {
                sound = false;
                println!("fuzz {:<24} input {inputs} of seed {seed}: {why}", target.name);
            }
        }
    }
    Ok(sound)
}
