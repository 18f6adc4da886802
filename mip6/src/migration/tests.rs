//! Movements of UMIP (order, selectors, reqids and addresses as measured on Linux 6.1) against a small table of associations.

use std::net::IpAddr;

use watari_policies::selector::MOBILITY_HEADER;

use super::*;

const HOA: &str = "2001:db8:1::abcd";
const HOA2: &str = "2001:db8:1::abce";
const HA: &str = "2001:db8:1::1";
const COA1: &str = "2001:db8:f1::e";
const COA2: &str = "2001:db8:f2::e";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn ends(src: &str, dst: &str) -> Endpoints {
    Endpoints { src: ip(src), dst: ip(dst) }
}

fn km(local: &str, remote: &str) -> KmAddress {
    KmAddress { local: ip(local), remote: ip(remote) }
}

fn hosts(src: &str, dst: &str) -> Selector {
    let net = |text: &str| if text == "::" { "::/0".parse().expect("net") } else { ip(text).into() };
    Selector::between(net(src), net(dst))
}

#[derive(Clone, Debug)]
struct Row {
    policy: PolicyId,
    remote: RemoteId,
    direction: Direction,
    reqid: Reqid,
    selector: Selector,
    mode: Mode,
}

/// Every policy has one child SA of the same number; remote n has IKE SA n.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Vec<Row>,
    children: Vec<(PolicyId, ChildView<u32>)>,
    ikes: Vec<(RemoteId, u32, KmAddress)>,
    remembered: BTreeMap<PolicyId, KmAddress>,
    of_remote: BTreeMap<RemoteId, KmAddress>,
    tunnels: BTreeMap<PolicyId, Endpoints>,
    /// Where no movement is believed other than as this says.
    belief: Option<Belief>,
    homes: BTreeMap<RemoteId, IpAddr>,
}

impl Table {
    fn policy(&mut self, id: u32, remote: u32, out: (Selector, u32), inbound: (Selector, u32), mode: Mode) {
        for (direction, (selector, reqid)) in [(Direction::Out, out), (Direction::In, inbound)] {
            self.rows.push(Row { policy: PolicyId(id), remote: RemoteId(remote), direction, reqid: Reqid(reqid), selector, mode });
        }
    }

    fn child(&mut self, policy: u32, id: u32, mode: Mode, outbound: Endpoints) {
        self.children.push((PolicyId(policy), ChildView { id, mode, inbound: outbound.reversed(), outbound }));
    }

    /// A mobile node with binding updates, and payload in a tunnel, at `coa`.
    fn mobile_node(hoa: &str, coa: &str) -> Self {
        let mut table = Self::default();
        let mh = |src, dst, number| hosts(src, dst).protocol(MOBILITY_HEADER).message_type(number);
        table.policy(0, 0, (mh(hoa, HA, 5), 1), (mh(HA, hoa, 6), 2), Mode::Transport);
        table.policy(1, 0, (hosts(hoa, "::"), 7), (hosts("::", hoa), 8), Mode::Tunnel);
        table.child(0, 10, Mode::Transport, ends(hoa, HA));
        table.child(1, 11, Mode::Tunnel, ends(coa, HA));
        table.ikes.push((RemoteId(0), 1, km(coa, HA)));
        table
    }

    fn apply(&mut self, plan: &MigrationPlan<u32, u32>) {
        self.remembered.extend(plan.remember.iter().copied());
        self.of_remote.extend(plan.remotes.iter().map(|moved| (moved.remote, moved.new)));
        self.tunnels.extend(plan.tunnels.iter().copied());
        for moved in &plan.children {
            let (_, child) = self.children.iter_mut().find(|(_, child)| child.id == moved.id).expect("child");
            child.inbound = moved.inbound.unwrap_or(child.inbound);
            child.outbound = moved.outbound.unwrap_or(child.outbound);
        }
        for retarget in &plan.retarget {
            let (_, _, addresses) = self.ikes.iter_mut().find(|(_, ike, _)| *ike == retarget.ike).expect("IKE SA");
            *addresses = retarget.new;
        }
    }

    fn run(&mut self, event: &Migrate) -> Outcome<u32, u32> {
        let outcome = plan_migration(self, event);
        if let Outcome::Plan(plan) = &outcome {
            self.apply(plan);
        }
        outcome
    }
}

impl Associations for Table {
    type Child = u32;
    type Ike = u32;

    fn policies(&self, query: &PolicyQuery) -> Vec<PolicyId> {
        let fits = |row: &&Row| {
            row.direction == query.direction
                && row.reqid == query.reqid
                && row.mode == query.mode
                && (row.selector.src, row.selector.dst, row.selector.protocol)
                    == (query.selector.src, query.selector.dst, query.selector.protocol)
                && (!query.types || row.selector.sport == query.selector.sport)
        };
        self.rows.iter().filter(fits).map(|row| row.policy).collect()
    }
    fn remote_of(&self, policy: PolicyId) -> Option<RemoteId> {
        self.rows.iter().find(|row| row.policy == policy).map(|row| row.remote)
    }
    fn children_of(&self, policy: PolicyId) -> Vec<ChildView<u32>> {
        self.children.iter().filter(|(of, _)| *of == policy).map(|(_, child)| *child).collect()
    }
    fn ike_sas_of(&self, remote: RemoteId) -> Vec<(u32, KmAddress)> {
        self.ikes.iter().filter(|(of, ..)| *of == remote).map(|(_, ike, addresses)| (*ike, *addresses)).collect()
    }
    fn remembered(&self, policy: PolicyId) -> Option<KmAddress> {
        self.remembered.get(&policy).copied()
    }
    fn remembered_of(&self, remote: RemoteId) -> Option<KmAddress> {
        self.of_remote.get(&remote).copied()
    }
    fn tunnel(&self, policy: PolicyId) -> Option<Endpoints> {
        self.tunnels.get(&policy).copied()
    }
    fn belief(&self, _: RemoteId, _: KmAddress) -> Belief {
        self.belief.unwrap_or(Belief::Believed(Decision::Follow))
    }
    fn home_address(&self, remote: RemoteId) -> Option<IpAddr> {
        self.homes.get(&remote).copied()
    }
}

fn migrate(
    selector: Selector,
    direction: Direction,
    mode: Mode,
    reqid: u32,
    old: Endpoints,
    new: Endpoints,
    km: Option<KmAddress>,
) -> Migrate {
    let step = MigrateStep { protocol: Protocol::Esp, mode, reqid: Reqid(reqid), old, new };
    Migrate { selector, direction, steps: vec![step], kmaddress: km, source: MigrateSource::Netlink }
}

fn binding_update(coa: &str) -> Migrate {
    let selector = hosts(HOA, HA).protocol(MOBILITY_HEADER).message_type(5);
    migrate(selector, Direction::Out, Mode::Transport, 1, ends("::", "::"), ends(coa, HA), Some(km(coa, HA)))
}

fn payload_out(old: &str, new: &str, addresses: Option<KmAddress>) -> Migrate {
    migrate(hosts(HOA, "::"), Direction::Out, Mode::Tunnel, 7, ends(old, HA), ends(new, HA), addresses)
}

fn payload_in(old: &str, new: &str, addresses: Option<KmAddress>) -> Migrate {
    migrate(hosts("::", HOA), Direction::In, Mode::Tunnel, 8, ends(HA, old), ends(HA, new), addresses)
}

fn plan(outcome: Outcome<u32, u32>) -> MigrationPlan<u32, u32> {
    match outcome {
        Outcome::Plan(plan) => plan,
        Outcome::Idle(idle) => panic!("idle: {}", idle.why()),
    }
}

#[test]
fn transport_only_notifies() {
    let mut table = Table::mobile_node(HOA, COA1);
    let plan = plan(table.run(&binding_update(COA2)));
    assert_eq!(plan.children, []);
    assert_eq!(plan.tunnels, []);
    assert_eq!(plan.remember, [(PolicyId(0), km(COA2, HA))]);
    assert_eq!(plan.retarget, [Retarget { ike: 1, remote: RemoteId(0), old: km(COA1, HA), new: km(COA2, HA) }]);
    assert_eq!(table.run(&binding_update(COA2)), Outcome::Idle(Idle::Repeat));
}

#[test]
fn tunnel_halves_move_each_by_its_own_direction() {
    let mut table = Table::mobile_node(HOA, COA1);
    let km2 = Some(km(COA2, HA));
    let first = plan(table.run(&payload_in(COA1, COA2, km2)));
    assert_eq!(first.children, [MovedChild { id: 11, inbound: Some(ends(HA, COA2)), outbound: None }]);
    assert_eq!(first.tunnels, [(PolicyId(1), ends(COA2, HA))]);
    let second = plan(table.run(&payload_out(COA1, COA2, km2)));
    assert_eq!(second.children, [MovedChild { id: 11, inbound: None, outbound: Some(ends(COA2, HA)) }]);
    assert_eq!((second.tunnels, second.retarget), (vec![], vec![]));
    assert_eq!(table.run(&payload_out(COA1, COA2, km2)), Outcome::Idle(Idle::Repeat));
}

#[test]
fn forward_concerns_the_inbound_half() {
    let mut table = Table::mobile_node(HOA, COA1);
    let forward = Migrate { direction: Direction::Forward, ..payload_in(COA1, COA2, Some(km(COA2, HA))) };
    assert_eq!(plan(table.run(&forward)).children, [MovedChild { id: 11, inbound: Some(ends(HA, COA2)), outbound: None }]);
    assert_eq!(table.run(&payload_in(COA1, COA2, Some(km(COA2, HA)))), Outcome::Idle(Idle::Repeat));
}

#[test]
fn a_burst_ends_where_the_last_one_says() {
    let mut table = Table::mobile_node(HOA, COA1);
    for (old, new) in [(COA1, COA2), (COA2, COA1), (COA1, COA2), (COA2, HOA)] {
        table.run(&binding_update(new));
        table.run(&payload_out(old, new, Some(km(new, HA))));
        table.run(&payload_in(old, new, Some(km(new, HA))));
    }
    assert_eq!(table.children[1].1.outbound, ends(HOA, HA));
    assert_eq!(table.children[1].1.inbound, ends(HA, HOA));
    assert_eq!(table.children[0].1.outbound, ends(HOA, HA));
    assert_eq!(table.ikes, [(RemoteId(0), 1, km(HOA, HA))]);
}

#[test]
fn old_equal_to_new_is_consumed() {
    let mut table = Table::mobile_node(HOA, COA1);
    table.run(&payload_out(COA1, HOA, Some(km(HOA, HA))));
    assert_eq!(table.run(&payload_out(HOA, HOA, Some(km(HOA, HA)))), Outcome::Idle(Idle::NothingMoved));
}

#[test]
fn mobile_nodes_that_share_reqids_do_not_move_each_other() {
    let mut table = Table::default();
    for (remote, hoa, coa) in [(0, HOA, COA1), (1, HOA2, COA2)] {
        table.policy(remote, remote, (hosts("::", hoa), 8), (hosts(hoa, "::"), 7), Mode::Tunnel);
        table.child(remote, 20 + remote, Mode::Tunnel, ends(HA, coa));
        table.ikes.push((RemoteId(remote), remote, km(HA, coa)));
    }
    let before = table.clone();
    let event = migrate(hosts("::", HOA), Direction::Out, Mode::Tunnel, 8, ends(HA, COA1), ends(HA, COA2), Some(km(HA, COA2)));
    let plan = plan(table.run(&event));
    assert_eq!(plan.policies, [PolicyId(0)]);
    assert_eq!(table.ikes[1], before.ikes[1]);
    assert_eq!(table.children[1], before.children[1]);
    assert_eq!(table.ikes[0].2, km(HA, COA2));
}

#[test]
fn addresses_are_remembered_before_any_association_exists() {
    let mut table = Table::mobile_node(HOA, COA1);
    table.children.clear();
    table.ikes.clear();
    let plan = plan(table.run(&binding_update(COA2)));
    assert_eq!(plan.remember, [(PolicyId(0), km(COA2, HA))]);
    assert_eq!(plan.remotes, [RemoteMove { remote: RemoteId(0), old: None, new: km(COA2, HA) }]);
    assert!(plan.retarget.is_empty() && plan.children.is_empty());
}

#[test]
fn without_kmaddress_the_new_tunnel_end_points_serve() {
    let mut table = Table::mobile_node(HOA, COA1);
    let plan = plan(table.run(&payload_in(COA1, COA2, None)));
    assert_eq!(plan.retarget, [Retarget { ike: 1, remote: RemoteId(0), old: km(COA1, HA), new: km(COA2, HA) }]);
    let transport = Migrate { kmaddress: None, ..binding_update(COA1) };
    assert_eq!(table.run(&transport), Outcome::Idle(Idle::Repeat), "a transport step alone says nothing about IKE");
}

#[test]
fn every_ike_sa_of_the_remote_follows() {
    let mut table = Table::mobile_node(HOA, COA1);
    table.ikes.push((RemoteId(0), 2, km("::", HA)));
    table.ikes.push((RemoteId(5), 3, km(COA1, HA)));
    let plan = plan(table.run(&binding_update(COA2)));
    assert_eq!(plan.retarget.iter().map(|retarget| retarget.ike).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_copy_without_types_still_finds_its_policy_and_a_stranger_none() {
    let mut table = Table::mobile_node(HOA, COA1);
    let mut copy = binding_update(COA2);
    copy.source = MigrateSource::PfKey;
    copy.selector.sport = watari_policies::PortMask::ANY;
    assert_eq!(plan(table.run(&copy)).policies, [PolicyId(0)]);
    let mut stranger = binding_update(COA1);
    stranger.steps[0].reqid = Reqid(99);
    assert_eq!(table.run(&stranger), Outcome::Idle(Idle::NotOurs));
    let mut stranger = binding_update(COA1);
    stranger.selector = hosts(HOA2, HA).protocol(MOBILITY_HEADER).message_type(5);
    assert_eq!(table.run(&stranger), Outcome::Idle(Idle::NotOurs));
}

#[test]
fn every_step_of_one_event_counts() {
    let mut table = Table::mobile_node(HOA, COA1);
    let mut event = payload_out(COA1, COA2, None);
    let strange = MigrateStep { reqid: Reqid(77), ..event.steps[0] };
    event.steps.insert(0, strange);
    assert_eq!(plan(table.run(&event)).children.len(), 1);
}

#[test]
fn of_the_steps_of_one_event_the_last_wins() {
    let mut table = Table::mobile_node(HOA, COA1);
    table.run(&binding_update(COA1));
    table.run(&payload_out(COA1, COA1, Some(km(COA1, HA))));
    let mut event = payload_out(COA1, COA2, None);
    let back = MigrateStep { old: event.steps[0].new, new: event.steps[0].old, ..event.steps[0] };
    event.steps.push(back);
    let before = format!("{:?} {:?} {:?}", table.children, table.remembered, table.tunnels);
    assert!(matches!(table.run(&event), Outcome::Idle(_)), "there and back again");
    assert_eq!(format!("{:?} {:?} {:?}", table.children, table.remembered, table.tunnels), before);
}

#[test]
fn with_k_clear_ike_sas_left_behind_are_given_up_and_one_made_at_the_new_address_stays() {
    let mut table = Table::mobile_node(HOA, COA1);
    table.ikes.push((RemoteId(0), 2, km(COA2, HA)));
    table.belief = Some(Belief::Believed(Decision::Discard(Connections::WithHomeAgent)));
    let first = plan(table.run(&binding_update(COA2)));
    assert_eq!(first.discard, [Discard { ike: 1, remote: RemoteId(0), old: km(COA1, HA), new: km(COA2, HA) }]);
    assert_eq!(first.retarget, []);
    assert_eq!(first.remotes, [RemoteMove { remote: RemoteId(0), old: None, new: km(COA2, HA) }]);
    table.ikes.remove(0);
    let second = plan(table.run(&payload_out(COA1, COA2, Some(km(COA2, HA)))));
    assert_eq!((second.discard, second.retarget), (vec![], vec![]), "the successor is not touched by the rest of the burst");
}

#[test]
fn without_a_binding_before_only_what_stands_with_the_home_address_is_given_up() {
    let mut table = Table::default();
    table.policy(0, 0, (hosts("::", HOA), 8), (hosts(HOA, "::"), 7), Mode::Tunnel);
    table.ikes = vec![(RemoteId(0), 1, km(HA, HOA)), (RemoteId(0), 2, km(HA, COA1)), (RemoteId(0), 3, km(HA, COA2))];
    table.homes.insert(RemoteId(0), ip(HOA));
    table.belief = Some(Belief::Believed(Decision::Discard(Connections::WithHomeAddress)));
    let event = migrate(hosts("::", HOA), Direction::Out, Mode::Tunnel, 8, ends(HA, HOA), ends(HA, COA1), Some(km(HA, COA1)));
    let plan = plan(table.run(&event));
    assert_eq!(plan.discard.iter().map(|discard| discard.ike).collect::<Vec<_>>(), [1]);
    assert_eq!(plan.retarget, []);
}

#[test]
fn what_is_doubted_moves_only_what_the_kernel_moved() {
    let mut table = Table::mobile_node(HOA, COA1);
    table.run(&binding_update(COA1));
    table.belief = Some(Belief::Doubted);
    let first = plan(table.run(&binding_update(COA2)));
    let doubted = RemoteMove { remote: RemoteId(0), old: Some(km(COA1, HA)), new: km(COA2, HA) };
    assert_eq!(first, MigrationPlan { policies: vec![PolicyId(0)], doubted: vec![doubted], ..MigrationPlan::default() });
    let second = plan(table.run(&payload_out(COA1, COA2, Some(km(COA2, HA)))));
    assert_eq!(second.tunnels, [(PolicyId(1), ends(COA2, HA))]);
    assert_eq!(second.children.len(), 1);
    assert_eq!((second.remember, second.remotes, second.retarget), (vec![], vec![], vec![]));
    assert_eq!(table.ikes, [(RemoteId(0), 1, km(COA1, HA))]);
    // The same place again, which nobody has to prove.
    assert_eq!(table.run(&binding_update(COA1)), Outcome::Idle(Idle::Repeat));
    // An IKE SA made from there proves it, where no other one is left.
    table.ikes = vec![(RemoteId(0), 4, km(COA2, HA))];
    assert_eq!(plan(table.run(&binding_update(COA2))).remember, [(PolicyId(0), km(COA2, HA))]);
}
