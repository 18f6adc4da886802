//! Numbers of secrets: a secret keeps its number when others come and go.
//! Invariant: while a configuration takes the place of another, no number means one secret in the old and another in the new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Loaded;
use crate::{Secret, SecretId};

/// Numbers below are for secrets that the file itself numbers.
const FIRST: u32 = 0x4000_0000;

/// The number for a fingerprint, or the next one that is free.
pub(super) fn free(fingerprint: u64, taken: impl Fn(&SecretId) -> bool) -> SecretId {
    let number = |at: u64| SecretId(FIRST | (u32::try_from(at & u64::from(FIRST - 1)).unwrap_or_default()));
    let free = (0..u64::from(FIRST)).map(|step| number(fingerprint.wrapping_add(step))).find(|id| !taken(id));
    free.unwrap_or(SecretId(u32::MAX))
}

impl Loaded {
    /// Settles the numbers of the secrets after those of the configuration that was in force `before`: a secret keeps the number it has
    /// there, wherever it is named now, and one that was not there gets a number that meant nothing. So a record whose secret is another
    /// one is seen to have changed, and what still goes on under an old number finds no other secret there.
    pub fn renumber(&mut self, before: &BTreeMap<SecretId, Secret>) {
        // Numbers that the file itself gives are the operator's business.
        let named: BTreeSet<SecretId> = self.origins.keys().filter(|id| !self.secrets.contains_key(id)).copied().collect();
        let secrets = std::mem::take(&mut self.secrets);
        let stays = |id: &SecretId, secret: &Secret| before.get(id) == Some(secret);
        let mut known: BTreeMap<&[u8], VecDeque<SecretId>> = BTreeMap::new();
        for (id, secret) in before {
            if !named.contains(id) && secrets.get(id).is_none_or(|new| new != secret) {
                known.entry(secret.expose()).or_default().push_back(*id);
            }
        }
        let mut numbers = BTreeMap::new();
        for (id, secret) in &secrets {
            let new = if stays(id, secret) {
                *id
            } else if let Some(old) = known.get_mut(secret.expose()).and_then(VecDeque::pop_front) {
                old
            } else {
                let taken = |new: &SecretId| {
                    before.contains_key(new) || secrets.contains_key(new) || self.secrets.contains_key(new) || named.contains(new)
                };
                if before.contains_key(id) || self.secrets.contains_key(id) { free(u64::from(id.0).wrapping_add(1), taken) } else { *id }
            };
            self.secrets.insert(new, secret.clone());
            numbers.insert(*id, new);
        }
        let origins = std::mem::take(&mut self.origins);
        self.origins = origins.into_iter().map(|(id, origin)| (numbers.get(&id).copied().unwrap_or(id), origin)).collect();
        let now = |id: SecretId| numbers.get(&id).copied().unwrap_or(id);
        let follow = |id: &mut SecretId| *id = now(*id);
        for remote in &mut self.config.remotes {
            remote.authentication = remote.authentication.renumbered(now);
        }
        for manual in self.config.ipsecs.iter_mut().filter_map(|ipsec| ipsec.manual.as_mut()) {
            follow(&mut manual.outbound.key);
            follow(&mut manual.inbound.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manual::tests::{RECORDS, files};
    use super::super::{Loaded, load};
    use crate::model::Authentication;
    use crate::{Secret, SecretId};

    fn loaded(text: &str) -> Loaded {
        load(text, "x.toml", &files).unwrap_or_else(|complaints| panic!("{complaints}"))
    }

    /// The outbound key of the only manual SA with this name, and its number.
    fn outbound(loaded: &Loaded, name: &str) -> (SecretId, Secret) {
        let ipsec = loaded.config.ipsecs.iter().find(|ipsec| ipsec.name == name).expect("named");
        let id = ipsec.manual.expect("manual").outbound.key;
        (id, loaded.secrets.get(&id).expect("kept").clone())
    }

    const FIRST: &str = r#"
[sa.another]
proposal = "aes128-sha256"
out = { spi = 0x2001, key = "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111" }
in = { spi = 0x2002, key = "222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222" }

[ipsec.another]
sa = "another"

[remote.another]
keying = "manual"
remote_address = "2001:db8:9::1"

[policy.another]
mode = "transport"
installed_by = "watari"
ipsec = "another"
remote = "another"

[selector.another]
local = "2001:db8:9::2 udp"
remote = "2001:db8:9::1 udp"
policy = "another"
"#;

    const AAA: &str = r#"
[remote.aaa]
remote_address = "2001:db8:9::7"
identity = "me.example"
remote_identity = "you.example"
psk = "not that easy to guess"
"#;

    #[test]
    fn a_secret_that_comes_before_others_leaves_them_their_numbers() {
        let (before, after) = (loaded(RECORDS), loaded(&format!("{FIRST}{RECORDS}")));
        assert_eq!(outbound(&before, "by-hand"), outbound(&after, "by-hand"));
        let ipsec = |loaded: &Loaded| loaded.config.ipsecs.iter().find(|ipsec| ipsec.name == "by-hand").and_then(|ipsec| ipsec.manual);
        assert_eq!(ipsec(&before), ipsec(&after), "the record is the same");
        assert_ne!(outbound(&after, "another"), outbound(&after, "by-hand"));
        // Pre-shared keys are numbered by their place in the file, and settled after what was there before.
        let bbb = AAA.replace("aaa", "bbb").replace("you", "somebody").replace("easy", "simple").replace("9::7", "9::8");
        let psk = |loaded: &Loaded, name: &str| {
            let remote = loaded.config.remotes.iter().find(|remote| remote.name == name).expect("named");
            let Authentication::Psk(id) = remote.authentication else { panic!("a key") };
            (id, loaded.secrets.get(&id).expect("kept").clone())
        };
        let both = |first: &str, second: &str| loaded(&format!("{first}{second}"));
        let (one, mut two) = (both(&bbb, ""), both(AAA, &bbb));
        assert_ne!(psk(&one, "bbb").0, psk(&two, "bbb").0, "as the file has it");
        two.renumber(&one.secrets);
        assert_eq!(psk(&one, "bbb"), psk(&two, "bbb"));
        assert_eq!(psk(&two, "aaa").1.expose(), b"not that easy to guess");
        assert_ne!(psk(&two, "aaa").0, psk(&two, "bbb").0);
        // And when it goes again.
        let mut again = loaded(RECORDS);
        again.renumber(&after.secrets);
        assert_eq!(outbound(&again, "by-hand"), outbound(&before, "by-hand"));
    }

    #[test]
    fn a_key_that_was_changed_in_place_is_another_secret() {
        let before = loaded(RECORDS);
        let mut after = loaded(&RECORDS.replace("key = \"0001", "key = \"0f01"));
        after.renumber(&before.secrets);
        let manual = |loaded: &Loaded| loaded.config.ipsecs.first().and_then(|ipsec| ipsec.manual).expect("manual");
        assert_eq!(manual(&before).outbound, manual(&after).outbound, "that key is the same");
        let new = manual(&after).inbound.key;
        assert_ne!(manual(&before).inbound.key, new, "the record is seen to have changed");
        assert_eq!(after.secrets.get(&new).map(|key| key.expose()[0]), Some(0x0f));
        assert!(after.origins.contains_key(&new) && after.secrets.len() == 2);
        // Once it is in force it stays as it is.
        let mut again = loaded(&RECORDS.replace("key = \"0001", "key = \"0f01"));
        again.renumber(&after.secrets);
        assert_eq!(manual(&again), manual(&after));
    }
}
