//! The whole truth table of the K bit, row by row with the section that demands it.

use watari_policies::KeyMobility::{self, Assume, Never, Observe};

use super::Connections::{WithHomeAddress, WithHomeAgent, WithOldCareOf};
use super::Decision::{self, Discard, Follow, Wait};
use super::Evidence::{self, Acknowledgement, None as Nothing, Told, Update};
use super::Registration::{self, Again, Ended, First};
use super::Role::{HomeAgent, MobileNode};
use super::{Known, Role, decide};

const fn bu(k: bool) -> Evidence {
    Update { k }
}

const fn ba(status: u8, k: bool) -> Evidence {
    Acknowledgement { status, k }
}

const fn told(status: u8, k: bool) -> Evidence {
    Told { status, k }
}

type Row = (&'static str, Role, KeyMobility, bool, Evidence, Registration, bool, Decision);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // section            role        setting  echoes evidence           binding moved  decision
    // Home agent, K of the protected binding update and what the daemon echoes, acted on when MIGRATE shows acceptance.
    ("6275 10.3.1 K=1",   HomeAgent,  Observe, true,  bu(true),          First,  true,  Follow),
    ("6275 10.3.1 K=1",   HomeAgent,  Observe, true,  bu(true),          Again,  true,  Follow),
    ("6275 10.3.2 K=1",   HomeAgent,  Observe, true,  bu(true),          Ended,  true,  Follow),
    ("6275 10.3.1 first", HomeAgent,  Observe, true,  bu(false),         First,  true,  Discard(WithHomeAddress)),
    ("6275 10.3.1 K=0",   HomeAgent,  Observe, true,  bu(false),         Again,  true,  Discard(WithOldCareOf)),
    ("6275 10.3.2 K=0",   HomeAgent,  Observe, true,  bu(false),         Ended,  true,  Discard(WithOldCareOf)),
    ("6275 10.3.1 bullet 3", HomeAgent, Observe, false, bu(true),        First,  true,  Discard(WithHomeAddress)),
    ("6275 10.3.1 bullet 3", HomeAgent, Observe, false, bu(true),        Again,  true,  Discard(WithOldCareOf)),
    ("6275 10.3.2 bullet 3", HomeAgent, Observe, false, bu(true),        Ended,  true,  Discard(WithOldCareOf)),
    ("6275 10.3.1 K=0",   HomeAgent,  Observe, false, bu(false),         First,  true,  Discard(WithHomeAddress)),
    ("6275 10.3.1 K=0",   HomeAgent,  Observe, false, bu(false),         Again,  true,  Discard(WithOldCareOf)),
    ("6275 10.3.2 K=0",   HomeAgent,  Observe, false, bu(false),         Ended,  true,  Discard(WithOldCareOf)),
    // Not accepted yet: a binding update alone does nothing, whatever it says.
    ("6275 10.3.1 accepted", HomeAgent, Observe, true,  bu(true),        First,  false, Wait),
    ("6275 10.3.1 accepted", HomeAgent, Observe, true,  bu(false),       Again,  false, Wait),
    ("6275 10.3.1 accepted", HomeAgent, Observe, false, bu(true),        Ended,  false, Wait),
    // Unknown means move.
    ("4877 7.4 unknown",  HomeAgent,  Observe, true,  Nothing,           First,  true,  Follow),
    ("4877 7.4 unknown",  HomeAgent,  Observe, false, Nothing,           Again,  true,  Follow),
    ("4877 7.4 unknown",  HomeAgent,  Observe, false, Nothing,           Ended,  true,  Follow),
    ("own BA not seen",   HomeAgent,  Observe, true,  ba(0, false),      Again,  true,  Follow),
    // Mobile node: MIGRATE moves at once, a later acknowledgement may take it back.
    ("4877 7.4 BU sent",  MobileNode, Observe, true,  Nothing,           First,  true,  Follow),
    ("4877 7.4 BU sent",  MobileNode, Observe, true,  Nothing,           Again,  true,  Follow),
    ("4877 7.4 BU sent",  MobileNode, Observe, true,  Nothing,           Ended,  true,  Follow),
    ("6275 11.7.3 K=1",   MobileNode, Observe, true,  ba(0, true),       First,  true,  Follow),
    ("6275 11.7.3 K=1",   MobileNode, Observe, true,  ba(0, true),       Again,  true,  Follow),
    ("6275 11.7.3 K=1",   MobileNode, Observe, true,  ba(1, true),       Ended,  true,  Follow),
    ("6275 11.7.3 K=0",   MobileNode, Observe, true,  ba(0, false),      First,  true,  Discard(WithHomeAgent)),
    ("6275 11.7.3 K=0",   MobileNode, Observe, true,  ba(0, false),      Again,  true,  Discard(WithHomeAgent)),
    ("6275 11.7.3 K=0",   MobileNode, Observe, true,  ba(0, false),      Ended,  true,  Discard(WithHomeAgent)),
    // What the daemon echoes is the home agent's matter: the acknowledgement alone is the outcome.
    ("6275 11.7.3 K=1",   MobileNode, Observe, false, ba(0, true),       Again,  true,  Follow),
    // Statuses: 1 accepts, 127 would, 128 and above refuse and their K means nothing.
    ("6275 6.1.8 accepts", MobileNode, Observe, true, ba(1, false),      Again,  true,  Discard(WithHomeAgent)),
    ("6275 6.1.8 accepts", MobileNode, Observe, true, ba(127, false),    Again,  true,  Discard(WithHomeAgent)),
    ("6275 6.1.8 refuses", MobileNode, Observe, true, ba(128, false),    Again,  true,  Follow),
    ("6275 6.1.8 refuses", MobileNode, Observe, true, ba(133, false),    Ended,  true,  Follow),
    ("6275 6.1.8 refuses", MobileNode, Observe, true, ba(135, false),    First,  true,  Follow),
    ("6275 6.1.8 refuses", MobileNode, Observe, true, ba(255, true),     Again,  true,  Follow),
    ("own BU not seen",   MobileNode, Observe, true,  bu(false),         Again,  true,  Follow),
    // An acknowledgement before the kernel's word (SHISA moves after it) waits for it.
    ("6275 11.7.3 waits", MobileNode, Observe, true,  ba(0, false),      Again,  false, Wait),
    ("6275 11.7.3 waits", MobileNode, Observe, true,  ba(0, true),       Again,  false, Wait),
    ("6275 11.7.3 waits", MobileNode, Observe, true,  ba(135, false),    Again,  false, Wait),
    // `assume`: as if K = 1, whatever passes by.
    ("setting assume",    HomeAgent,  Assume,  true,  Nothing,           First,  true,  Follow),
    ("setting assume",    HomeAgent,  Assume,  false, bu(false),         Again,  true,  Follow),
    ("setting assume",    MobileNode, Assume,  true,  ba(0, false),      Again,  true,  Follow),
    ("setting assume",    MobileNode, Assume,  true,  Nothing,           Ended,  false, Wait),
    // `never`: as if K = 0.
    ("setting never",     HomeAgent,  Never,   true,  bu(true),          First,  true,  Discard(WithHomeAddress)),
    ("setting never",     HomeAgent,  Never,   true,  Nothing,           Again,  true,  Discard(WithOldCareOf)),
    ("setting never",     HomeAgent,  Never,   true,  told(0, true),     Ended,  true,  Discard(WithOldCareOf)),
    ("setting never",     HomeAgent,  Never,   true,  Nothing,           Again,  false, Wait),
    ("setting never",     MobileNode, Never,   true,  Nothing,           First,  true,  Discard(WithHomeAgent)),
    ("setting never",     MobileNode, Never,   true,  ba(0, true),       Again,  true,  Discard(WithHomeAgent)),
    ("setting never",     MobileNode, Never,   true,  Nothing,           Ended,  true,  Discard(WithHomeAgent)),
    // A daemon that tells is believed before any assumption, and what it echoes is in what it tells.
    ("6275 10.3.1 told",  HomeAgent,  Assume,  true,  told(0, false),    Again,  true,  Discard(WithOldCareOf)),
    ("6275 10.3.1 told",  HomeAgent,  Assume,  true,  told(0, false),    First,  true,  Discard(WithHomeAddress)),
    ("6275 10.3.1 told",  HomeAgent,  Observe, false, told(0, true),     Again,  true,  Follow),
    ("6275 11.7.3 told",  MobileNode, Assume,  true,  told(0, false),    Again,  true,  Discard(WithHomeAgent)),
    ("6275 11.7.3 told",  MobileNode, Observe, true,  told(1, true),     Ended,  true,  Follow),
    ("6275 6.1.8 refuses", MobileNode, Assume, true,  told(135, false),  Again,  true,  Follow),
    ("6275 6.1.8 refuses", HomeAgent, Observe, true,  told(128, false),  Again,  true,  Follow),
];

#[test]
fn every_row_of_the_truth_table() {
    for &(section, role, setting, echoes_k, evidence, registration, moved, expected) in ROWS {
        let known = Known { role, setting, echoes_k, evidence, registration, moved };
        assert_eq!(decide(&known), expected, "{section}: {known:?}");
    }
}

/// Everything the inputs can be, against the two sentences that may never be broken and the one that says when something is given up.
#[test]
fn nothing_is_given_up_without_movement_or_evidence() {
    let evidences = [Nothing, bu(true), bu(false)].into_iter();
    let statuses = [0, 1, 127, 128, 135, 255].into_iter();
    let answers = statuses.flat_map(|status| [ba(status, true), ba(status, false), told(status, true), told(status, false)]);
    let evidences: Vec<_> = evidences.chain(answers).collect();
    let mut discarded = 0;
    for (role, setting) in [MobileNode, HomeAgent].into_iter().flat_map(|role| [Assume, Never, Observe].map(|setting| (role, setting))) {
        for &evidence in &evidences {
            for (registration, moved, echoes_k) in [First, Again, Ended]
                .into_iter()
                .flat_map(|binding| [(binding, true, true), (binding, true, false), (binding, false, true)])
            {
                let decision = decide(&Known { role, setting, echoes_k, evidence, registration, moved });
                assert_eq!(decision == Wait, !moved);
                let Discard(connections) = decision else { continue };
                discarded += 1;
                assert!(setting == Never || evidence != Nothing, "unknown means move");
                assert_eq!(connections == WithHomeAgent, role == MobileNode);
                assert_eq!(connections == WithHomeAddress, role == HomeAgent && registration == First, "not the care-of address");
                if let Acknowledgement { status, k } | Told { status, k } = evidence {
                    assert!(setting == Never || (status < 128 && !k));
                }
            }
        }
    }
    assert!(discarded > 100);
}
