//! The runner's own proof: two hosts, one link, ESP transport SAs by hand, pings; the link carried ESP and nothing in clear.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::boot::{Kernel, Machine};
use super::guest::Guest;
use super::sockets;
use super::topology::{HostPlan, InterfacePlan, Topology};
use super::{Context, Failure, Result, testbed_directory};
use crate::judge::pcap::{Capture, Kind};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "smoke";
const CAPTURE: &str = "link.pcap";
const RESULT: &str = "smoke.json";
const PINGS: u32 = 5;

/// What the smoke test measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The guest's `uname -r`.
    pub(crate) kernel: String,
    /// Echo replies received.
    pub(crate) replies: u32,
    /// ESP packets seen on the link.
    pub(crate) esp_packets: usize,
    /// Echo requests and replies seen in clear on the link.
    pub(crate) clear_packets: usize,
    /// Promises of the agent's sockets that this kernel did not keep.
    pub(crate) complaints: Vec<String>,
    /// Boot to power-off, in milliseconds.
    pub(crate) elapsed_ms: u128,
}

/// Boots a machine and judges what crossed its link.
pub(crate) fn smoke(kernel: Kernel) -> Result<Report> {
    let name = match kernel {
        Kernel::Debian61 => "smoke-6.1",
        Kernel::Built612 => "smoke-6.12",
    };
    let output = testbed_directory().join("runs").join(name);
    let mut machine = Machine::new(&output)?;
    machine.kernel = kernel;
    machine.timeout = Duration::from_secs(60);
    let finish = machine.run(TASK, serde_json::to_value(topology()).context("topology")?)?;
    if finish.exit_code != 0 {
        return Err(Failure(format!("the smoke test ended with exit code {}; see {}", finish.exit_code, finish.console.display())));
    }
    let text = std::fs::read_to_string(output.join(RESULT)).context(RESULT)?;
    let mut report: Report = serde_json::from_str(&text).context(RESULT)?;
    let capture = Capture::read(&output.join(CAPTURE))?;
    let count = |wanted: &dyn Fn(&Kind) -> bool| capture.packets.iter().filter(|packet| wanted(&packet.kind)).count();
    report.esp_packets = count(&|kind| matches!(kind, Kind::Esp { .. }));
    report.clear_packets = count(&|kind| matches!(kind, Kind::Icmpv6 { kind: 128 | 129, .. }));
    report.elapsed_ms = finish.elapsed.as_millis();
    let expected = usize::try_from(PINGS).unwrap_or_default() * 2;
    let good = report.replies == PINGS && report.esp_packets == expected && report.clear_packets == 0 && report.complaints.is_empty();
    match good {
        true => Ok(report),
        false => Err(Failure(format!("the smoke test saw {report:?}"))),
    }
}

fn topology() -> Topology {
    let host = |name: &str, address: &str| HostPlan {
        name: name.into(),
        interfaces: vec![InterfacePlan {
            name: "eth0".into(),
            link: Some("wire".into()),
            addresses: vec![format!("{address}/64")],
            ..InterfacePlan::default()
        }],
        ..HostPlan::default()
    };
    Topology { links: vec!["wire".into()], hosts: vec![host("left", "2001:db8::1"), host("right", "2001:db8::2")] }
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let topology: Topology = serde_json::from_value(guest.plan.argument.clone()).context("topology")?;
    topology.build(guest)?;
    let left = guest.namespace("left")?;
    let right = guest.namespace("right")?;
    let capture = guest.capture("wire", CAPTURE)?;
    left.ip_batch(&security("out", "in"))?;
    right.ip_batch(&security("in", "out"))?;
    let ping = format!("ping -6 -n -c {PINGS} -i 0.01 -W 2 2001:db8::2");
    let text = left.exec(&ping)?;
    capture.stop()?;
    let report = Report {
        kernel: left.exec("uname -r")?.trim().into(),
        replies: text.matches("bytes from").count().try_into().unwrap_or_default(),
        complaints: sockets::complaints(&left, &right)?,
        ..Report::default()
    };
    guest.write(RESULT, serde_json::to_string(&report).context(RESULT)?)?;
    Ok(0)
}

/// States and policies of one end: `to_right` is the direction of policies from left to right there, `to_left` the other.
fn security(to_right: &str, to_left: &str) -> String {
    let key = "0x000102030405060708090a0b0c0d0e0f10111213";
    let state = |source: &str, target: &str, spi: u32| {
        format!(
            "xfrm state add src {source} dst {target} proto esp spi {spi} reqid 7 mode transport \
             aead rfc4106(gcm(aes)) {key} 128\n"
        )
    };
    let policy = |source: &str, target: &str, direction: &str| {
        format!(
            "xfrm policy add src {source} dst {target} proto ipv6-icmp type 128 dir {direction} tmpl proto esp reqid 7 mode transport\n\
             xfrm policy add src {source} dst {target} proto ipv6-icmp type 129 dir {direction} tmpl proto esp reqid 7 mode transport\n"
        )
    };
    let (left, right) = ("2001:db8::1", "2001:db8::2");
    state(left, right, 0x100) + &state(right, left, 0x200) + &policy(left, right, to_right) + &policy(right, left, to_left)
}
