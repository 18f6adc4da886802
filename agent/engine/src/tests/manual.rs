//! SAs configured by hand: installed, moved, kept at home, adopted, never negotiated.

use watari_policies::algorithm::Integrity;
use watari_policies::model::{Authentication, ManualHalf, ManualSa};
use watari_policies::{IpsecId, SecretId};
use watari_sa::{Work, WorkDone, WorkId};

use super::*;

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
