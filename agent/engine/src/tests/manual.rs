//! SAs configured by hand: installed, moved, kept at home, adopted, never negotiated.

use watari_policies::algorithm::Integrity;
use watari_policies::model::{Authentication, ManualHalf, ManualSa};
use watari_policies::{IpsecId, SecretId};
use watari_sa::{Work, WorkDone, WorkId};

use super::*;
use crate::{Command, CommandId};

const SUITE: ChildSuite = ChildSuite { cipher: Cipher::AES128, integrity: Some(Integrity::HmacSha256_128), esn: false };

/// The mobile node of the other tests, keyed by hand: SPIs 0x1001 out and 0x1002 in for BU and BA, 0x1003 and 0x1004 for payload.
fn config() -> Config {
    let mut config = mobile_node(MobileNodeProfile::default());
    config.remotes[0].authentication = Authentication::Manual;
    let ipsec = config.ipsecs[0].clone();
    for (number, policy) in (0u32..).zip(&mut config.policies) {
        let half = |spi| ManualHalf { spi, key: SecretId(spi) };
        let manual = ManualSa { suite: SUITE, outbound: half(0x1001 + 2 * number), inbound: half(0x1002 + 2 * number) };
        policy.ipsec = IpsecId(config.ipsecs.len() as u32);
        config.ipsecs.push(watari_policies::Ipsec { manual: Some(manual), replay_window: 0, ..ipsec.clone() });
    }
    config
}

/// Gives the keys that were asked for; how many.
fn give_keys(bench: &mut Bench, millis: u64) -> usize {
    let works: Vec<(WorkId, Work)> = std::mem::take(&mut bench.outputs)
        .into_iter()
        .filter_map(|output| if let Output::Work(id, work) = output { Some((id, work)) } else { None })
        .collect();
    for (id, work) in &works {
        let Work::ManualKeys { secret, suite } = work else { panic!("only keys are asked for: {work:?}") };
        let octets = |length| Secret::new(vec![secret.0 as u8; length]);
        let keys = SaKeys { suite: *suite, encryption: octets(16), integrity: octets(32) };
        bench.input(millis, Input::WorkDone(*id, WorkDone::ManualKeys(keys)));
    }
    works.len()
}

fn added(bench: &Bench) -> Vec<SaParameters> {
    let parameters = |(_, request): &(RequestId, KernelRequest)| match request {
        KernelRequest::AddSa { parameters, .. } => Some(parameters.as_ref().clone()),
        _ => None,
    };
    bench.requests.iter().filter_map(parameters).collect()
}

fn take_all(bench: &mut Bench, millis: u64) {
    while bench.requests.iter().any(|(_, request)| matches!(request, KernelRequest::AddSa { .. })) {
        bench.answer(millis, |request| matches!(request, KernelRequest::AddSa { .. }), KernelReply::Done);
    }
}

fn started() -> Bench {
    let mut bench = Bench::started(config(), mobile_node_policies(COA1), Vec::new());
    assert_eq!(give_keys(&mut bench, 1), 4);
    bench
}

#[test]
fn they_stand_as_soon_as_the_policies_are_there_and_nothing_is_negotiated() {
    let mut bench = started();
    let sas = added(&bench);
    let binding = sas.iter().find(|sa| sa.id.spi == Spi(0x1001)).expect("BU out");
    assert_eq!((binding.src, binding.id.dst, binding.mode), (ip(HOA), ip(HA), Mode::Transport));
    assert_eq!((binding.reqid, binding.replay_window, binding.keys.encryption.expose()[0]), (Reqid(1), 0, 1));
    let payload = sas.iter().find(|sa| sa.id.spi == Spi(0x1004)).expect("payload in");
    assert_eq!((payload.src, payload.id.dst, payload.mode, payload.reqid), (ip(HA), ip(COA1), Mode::Tunnel, Reqid(8)));
    take_all(&mut bench, 2);
    let up = bench.told().into_iter().filter(|event| matches!(event, Event::Keying(KeyingEvent::ChildUp(_)))).count();
    assert_eq!(up, 2);
    bench.kernel(3, KernelEvent::PolicyChanged(payload_policies(COA1).remove(0)));
    assert!(bench.asked().iter().all(|asked| !matches!(asked, Asked::Want(_) | Asked::Rekey(_))));
    assert!(added(&bench).is_empty(), "once is enough");
}

#[test]
fn they_move_with_the_policy_and_are_made_again_with_the_same_keys_if_the_kernel_lost_them() {
    let mut bench = started();
    take_all(&mut bench, 2);
    bench.requests.clear();
    for event in burst(COA1, COA2) {
        bench.kernel(10_000, KernelEvent::Migrate(event));
    }
    bench.input(10_000 + QUIET, Input::Timeout);
    // The kernel shows neither half at the new address, twice.
    for millis in [10_100, 10_200] {
        while bench.requests.iter().any(|(_, request)| matches!(request, KernelRequest::QuerySa(_))) {
            bench.answer(millis, |request| matches!(request, KernelRequest::QuerySa(_)), KernelReply::Sa(None));
        }
        bench.input(millis + 50, Input::Timeout);
    }
    let again = added(&bench);
    let spis: Vec<_> = again.iter().map(|sa| (sa.id.spi, sa.src, sa.id.dst)).collect();
    assert!(spis.contains(&(Spi(0x1003), ip(COA2), ip(HA))) && spis.contains(&(Spi(0x1004), ip(HA), ip(COA2))), "{spis:x?}");
    assert!(bench.asked().iter().all(|asked| !matches!(asked, Asked::Want(_) | Asked::Rekey(_))));
}

#[test]
fn they_are_kept_when_the_tunnel_policies_go_at_home() {
    let mut bench = started();
    take_all(&mut bench, 2);
    bench.requests.clear();
    for ipsec in &mut bench.agent.core.config.ipsecs {
        ipsec.dormant = Some(Duration::from_secs(1));
    }
    for entry in payload_policies(COA1) {
        bench.kernel(20_000, KernelEvent::PolicyRemoved(entry));
    }
    assert!(bench.requests.iter().all(|(_, request)| !matches!(request, KernelRequest::DeleteSa(_))), "{:?}", bench.requests);
    let child = |bench: &Bench| bench.agent.core.children.of_policy(PAYLOAD).next().map(|child| child.state);
    assert_eq!(child(&bench), Some(ChildState::Dormant));
    bench.input(25_000, Input::Timeout);
    assert_eq!(child(&bench), Some(ChildState::Dormant), "nobody can make others");
    for entry in payload_policies(COA2) {
        bench.kernel(30_000, KernelEvent::PolicyChanged(entry));
    }
    assert_eq!(child(&bench), Some(ChildState::Installed));
}

#[test]
fn those_of_an_earlier_run_stay_with_their_sequence_numbers() {
    let inbound = selector(HA, HOA).protocol(MOBILITY_HEADER);
    let sas = vec![
        sa(0x1001, ends(HOA, HA), Mode::Transport, 1, binding_selector(HOA, HA)),
        sa(0x1002, ends(HA, HOA), Mode::Transport, 2, inbound),
    ];
    let mut bench = Bench::started(config(), mobile_node_policies(COA1), sas);
    give_keys(&mut bench, 1);
    let spis: Vec<_> = added(&bench).iter().map(|sa| sa.id.spi).collect();
    assert_eq!(spis, [Spi(0x1004), Spi(0x1003)], "only the tunnel's are new");
    assert!(bench.asked().iter().all(|asked| !matches!(asked, Asked::Want(_))));
}

#[test]
fn a_key_of_the_wrong_length_is_told_and_installs_nothing() {
    let mut bench = Bench::started(config(), mobile_node_policies(COA1), Vec::new());
    let ids: Vec<_> = bench.outputs.iter().filter_map(|output| if let Output::Work(id, _) = output { Some(*id) } else { None }).collect();
    for id in ids {
        bench.input(1, Input::WorkDone(id, WorkDone::Failed { why: "no such key".to_owned(), peer_at_fault: false }));
    }
    assert!(added(&bench).is_empty());
    assert!(bench.told().iter().any(|event| matches!(event, Event::Notice { detail, .. } if detail.contains("no such key"))));
}

fn reload(bench: &mut Bench, millis: u64, config: Config) -> (usize, usize) {
    bench.outputs.clear();
    bench.requests.clear();
    bench.input(millis, Input::Command(CommandId(9), Command::Reload(Box::new(config))));
    let keys = bench.outputs.iter().filter(|output| matches!(output, Output::Work(..))).count();
    let deleted = bench.requests.iter().filter(|(_, request)| matches!(request, KernelRequest::DeleteSa(_))).count();
    (keys, deleted)
}

#[test]
fn a_peer_and_its_keys_that_come_before_others_in_the_file_disturb_none_of_their_sas() {
    let mut bench = started();
    take_all(&mut bench, 2);
    let mut more = config();
    let mut remote = more.remotes[0].clone();
    remote.name = "first".to_owned();
    remote.remote_address = Some(ip("2001:db8:77::1"));
    more.remotes.insert(0, remote);
    let mut ipsec = more.ipsecs[more.policies[0].ipsec.0 as usize].clone();
    let half = |spi| ManualHalf { spi, key: SecretId(spi) };
    ipsec.manual = Some(ManualSa { suite: SUITE, outbound: half(0x3001), inbound: half(0x3002) });
    more.ipsecs.insert(0, ipsec);
    for policy in &mut more.policies {
        (policy.remote, policy.ipsec) = (RemoteId(policy.remote.0 + 1), IpsecId(policy.ipsec.0 + 1));
    }
    let mut first = more.policies[0].clone();
    (first.name, first.remote, first.ipsec) = ("first".to_owned(), RemoteId(0), IpsecId(0));
    more.policies.insert(0, first);
    let before: Vec<_> = bench.agent.core.children.iter().map(|child| (child.id, child.inbound.spi)).collect();
    assert_eq!(reload(&mut bench, 100, more.clone()).1, 0, "nothing is taken away");
    for (id, spi) in before {
        let child = bench.agent.core.children.get(id).expect("still there");
        assert_eq!((child.inbound.spi, child.state), (spi, ChildState::Installed));
        let ipsec = bench.agent.core.config.policy(child.policy).map(|policy| policy.ipsec).expect("named");
        let manual = bench.agent.core.config.ipsec(ipsec).and_then(|ipsec| ipsec.manual).expect("manual");
        assert_eq!((manual.inbound.spi, manual.inbound.key), (spi.0, SecretId(spi.0)), "and has the key it had");
    }
    // Another key in the same place is another SA: the number of the secret says so.
    let id = more.policies[1].ipsec;
    more.ipsecs[id.0 as usize].manual.as_mut().expect("manual").inbound.key = SecretId(0x7777);
    let (_, deleted) = reload(&mut bench, 200, more);
    assert_eq!(deleted, 2, "both halves of the one, and nothing else: {:?}", bench.requests);
}
