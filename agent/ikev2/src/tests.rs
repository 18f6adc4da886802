//! What can only be reached by reaching inside: message ids at the end of their range.

use crate::pair::*;
use crate::task::{LAST_ID, Task};
use watari_sa::{Cause, KeyingEvent, Target};

/// Two ends whose IKE SA has sent (A) and answered (B) so many requests that `next` comes next.
fn worn(next: u32) -> Pair {
    let mut pair = Pair::up();
    for sa in pair.a.ike.sas.values_mut() {
        sa.window.next_request = next;
    }
    for sa in pair.b.ike.sas.values_mut() {
        sa.window.expected = next;
    }
    pair
}

fn rekeyed(event: &KeyingEvent) -> bool {
    matches!(event, KeyingEvent::IkeRekeyed { .. })
}

#[test]
fn an_ike_sa_is_replaced_before_its_message_ids_are_used_up() {
    for side in [Side::A, Side::B] {
        let mut pair = worn(u32::MAX - 1030);
        // Nothing happens before it must; then the end that notices replaces it, whoever's ids they are.
        for _ in 0..20 {
            pair.probe(Side::A);
            pair.run();
            if side == Side::B {
                pair.probe(Side::B);
                pair.run();
            }
        }
        pair.pass_secs(40);
        pair.assert_healthy(1, 1);
        assert_eq!((pair.a.count(rekeyed), pair.b.count(rekeyed)), (1, 1), "{}", pair.story());
        assert_eq!(pair.a.inits(), 1);
        assert!(pair.a.ike.sas.values().all(|sa| sa.window.next_request < 100 && sa.window.expected < 100));
    }
}

#[test]
fn the_last_message_id_closes_the_ike_sa_when_another_stands() {
    let mut pair = worn(LAST_ID);
    let old = pair.a.established()[0];
    pair.want(Side::A, 2);
    pair.run();
    assert_eq!(pair.a.inits(), 2, "another one is made beside it");
    pair.pass_secs(30);
    assert!(!pair.a.established().contains(&old));
    pair.assert_healthy(1, 2);
    let ids = pair.a.sent.iter().filter(|sent| !kind(&sent.octets).2).map(|sent| kind(&sent.octets).1);
    assert_eq!(ids.filter(|id| *id >= LAST_ID).collect::<Vec<_>>(), [LAST_ID], "one last message");
}

#[test]
fn an_ike_sa_without_message_ids_ends_without_a_word() {
    let mut pair = worn(u32::MAX);
    let (ike, sent) = (pair.a.established()[0], pair.a.sent.len());
    pair.close(Side::A, Target::Ike(ike));
    pair.run();
    assert_eq!((pair.a.established().len(), pair.a.sent.len()), (0, sent));
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::EXPIRED)), 1);
}

#[test]
fn a_refused_replacement_is_not_asked_for_again_and_again() {
    let mut pair = worn(u32::MAX - 1000);
    // B refuses every rekey of the IKE SA: it has no proposal in common any more, for what is new.
    pair.b.config.remotes[0].proposals = vec!["aes256-sha512-x25519".parse().unwrap()];
    let sent = pair.a.sent.len();
    pair.probe(Side::A);
    pair.run();
    pair.pass_secs(20);
    assert!(pair.a.sent.len() - sent < 15, "{}", pair.story());
    assert_eq!(pair.a.established().len(), 1, "the old one stands as long as it can");
    assert!(pair.a.ike.sas.values().all(|sa| !matches!(sa.current, Some(Task::RekeyIke(_)))));
}
