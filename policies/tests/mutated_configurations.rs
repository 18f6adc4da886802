//! Broken configurations of every kind: the loader answers, points into the file, keeps secrets to itself and never panics.

use watari_policies::config::{self, SecretSource, load};
use watari_policies::{Secret, SecretId};

struct Vault;

impl SecretSource for Vault {
    fn file(&self, path: &str) -> Result<Secret, String> {
        if path.len().is_multiple_of(3) { Err("permission denied".into()) } else { Ok(Secret::from(&b"key\n"[..])) }
    }

    fn holds(&self, id: SecretId) -> bool {
        !id.0.is_multiple_of(2)
    }
}

const SEEDS: [&str; 3] = [
    r#"[watari]
port = 500
control = "/run/watari/control"
[mobile_node]
home_address = "2001:db8:1::abcd"
home_agent = "2001:db8:1::1"
identity = "mn.example"
home_agent_identity = "ha.example"
psk = "SECRETSECRET"
protect = ["binding", "return-routability", "prefix-discovery", "payload"]
reqids = { binding = [1, 2], payload = 7 }
binding_selector = "typed"
policies = "mip6d"
ike = ["aes128-sha256-x25519", "aes256gcm16-prfsha384-ecp384"]
child_lifetime = { hard = "1h", soft = "50m", jitter = "5m", bytes = 1000, packets = 0 }
retransmit = { initial = "500ms", factor = 1.8, cap = "30s", tries = 12 }
"#,
    r#"[home_agent]
address = "2001:db8:1::1"
identity = "ha.example"
protect = ["binding"]
policies = "watari"
esp = "null-sha256"
[[home_agent.mobile_node]]
home_address = "2001:db8:1::a"
identity = "mn1.example"
psk = """
SECRETSECRET"""
[[home_agent.mobile_node]]
name = "b"
home_address = "2001:db8:1::b"
identity = "keyid:0a0b"
psk_file = "/etc/watari/ä.psk"
"#,
    r#"[sa.a]
proposal = ["aes256gcm16-x25519", "null-sha256"]
[ipsec.i]
sa = ["a"]
lifetime = "10m"
[remote.gw]
remote_address = "192.0.2.2"
identity = "a@b"
remote_identity = "gw"
secret = 5
may_hold = ["0.0.0.0/0", "::/0"]
[policy.p]
installed_by = "watari"
mode = "tunnel"
endpoints = ["192.0.2.1", "192.0.2.2"]
ipsec = "i"
remote = "gw"
[selector.s]
local = ["10.0.0.0/24", "10.0.2.1-10.0.2.5 tcp 80-90", "10.0.0.1 icmp 8 code 0"]
remote = "10.1.0.0/16"
reqid_out = 0x10
policy = "p"
"#,
];

/// Bits of text that mean something to TOML or to us.
const SPLICES: [&str; 24] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "#",
    "-",
    "\\",
    "\\u0000",
    "\u{7f}",
    "ä€😀",
    "99999999999999999999",
    "1e400",
    "psk = \"SECRETSECRET\"",
    "true",
    "::",
    "\r\n",
];

/// Splitmix64: enough for mutations, and the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % below.max(1)
    }

    /// A place between two characters.
    fn place(&mut self, text: &str) -> usize {
        let mut at = self.roll(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn mutate(&mut self, text: &mut String) {
        let (one, other) = (self.place(text), self.place(text));
        let (from, to) = (one.min(other), one.max(other).min(one.min(other) + 40));
        let to = (from..=to).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
        match self.roll(5) {
            0 => text.replace_range(from..to, ""),
            1 => text.insert_str(from, SPLICES.get(self.roll(SPLICES.len())).unwrap_or(&"=")),
            2 => {
                let copied = text[from..to].to_owned();
                let at = self.place(text);
                text.insert_str(at, &copied);
            }
            3 => self.swap_lines(text),
            _ => self.swap_values(text),
        }
    }

    fn swap_lines(&mut self, text: &mut String) {
        let mut lines: Vec<&str> = text.lines().collect();
        let (one, other) = (self.roll(lines.len()), self.roll(lines.len()));
        if !lines.is_empty() {
            lines.swap(one, other);
            *text = lines.join("\n");
        }
    }

    /// Gives one key the value of another, so that types and meanings are confused in well-formed TOML.
    fn swap_values(&mut self, text: &mut String) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (one, other) = (self.roll(lines.len()), self.roll(lines.len()));
        if let (Some((key, _)), Some((_, value))) =
            (lines.get(one).and_then(|line| line.split_once('=')), lines.get(other).and_then(|line| line.split_once('=')))
        {
            let confused = format!("{key}={value}");
            lines.splice(one..=one, [confused]);
            *text = lines.join("\n");
        }
    }
}

#[test]
fn mutated_configurations_are_answered() {
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..6000u64 {
        let mut dice = Dice(round);
        let mut text = SEEDS[dice.roll(SEEDS.len())].to_owned();
        for _ in 0..=dice.roll(4) {
            dice.mutate(&mut text);
        }
        match load(&text, "mutated.toml", &Vault) {
            Ok(good) => {
                loaded += 1;
                let expanded = config::expand(&good.config, &good.origins);
                let everything =
                    config::load(&expanded, "expanded.toml", &Everything).unwrap_or_else(|why| panic!("{text}\n{expanded}\n{why}"));
                assert_eq!(everything.config.without_lines(), good.config.without_lines(), "{text}\n{expanded}");
            }
            Err(complaints) => {
                refused += 1;
                let lines = text.split('\n').count();
                assert!(complaints.error_count() > 0);
                assert!(complaints.iter().all(|one| one.line >= 1 && one.line as usize <= lines), "{text}\n{complaints}");
                let shown = complaints.to_string();
                let stray = text.replace("psk = \"SECRETSECRET", "").replace("psk = \"\"\"\nSECRETSECRET", "").contains("SECRETSECRET");
                assert!(stray || !shown.contains("SECRETSECRET"), "{text}\n{shown}");
            }
        }
    }
    assert!(loaded > 100 && refused > 1000, "the mutations are too weak or too strong: {loaded} loaded, {refused} refused");
}

/// Has every secret, so that an expansion loads.
struct Everything;

impl SecretSource for Everything {
    fn file(&self, _: &str) -> Result<Secret, String> {
        Ok(Secret::from(&b"key"[..]))
    }

    fn holds(&self, _: SecretId) -> bool {
        true
    }
}

#[test]
fn every_prefix_of_a_configuration_is_answered() {
    for seed in SEEDS {
        for end in (0..seed.len()).filter(|end| seed.is_char_boundary(*end)) {
            if let Err(complaints) = load(&seed[..end], "cut.toml", &Vault) {
                let shown = complaints.to_string();
                assert!(!shown.contains("SECRETSECRET"), "{shown}");
            }
        }
    }
}
