//! Links of a scenario: a bridge in the root namespace each. A host is on a link through a veth pair whose far end is a port
//! of the bridge; movement is that port changing bridges, with the carrier going away in between as on a real interface.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guest::{Guest, tool};
use super::hosts::{Daemon, Namespace};
use super::{Context, Failure, Result, output_of};

/// Longest interface name that Linux takes.
const NAME_LIMIT: usize = 15;

/// What a link does to packets, in each direction of one interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Impairment {
    /// Delay in milliseconds, one way.
    pub(crate) delay_ms: u32,
    /// Variation of the delay in milliseconds; lets packets overtake each other.
    pub(crate) jitter_ms: u32,
    /// Packets lost, in per cent.
    pub(crate) loss_percent: f64,
    /// Packets that arrive twice, in per cent.
    pub(crate) duplicate_percent: f64,
}

impl Impairment {
    fn netem(&self) -> String {
        let mut words = String::from("netem limit 10000");
        if self.delay_ms > 0 || self.jitter_ms > 0 {
            words += &format!(" delay {}ms {}ms", self.delay_ms, self.jitter_ms);
        }
        if self.loss_percent > 0.0 {
            words += &format!(" loss {}%", self.loss_percent);
        }
        if self.duplicate_percent > 0.0 {
            words += &format!(" duplicate {}%", self.duplicate_percent);
        }
        words
    }
}

/// Name of the bridge that is the link.
fn bridge_name(link: &str) -> String {
    format!("br-{link}")
}

/// Name of the far end of a host's interface.
fn port_name(host: &str, interface: &str) -> Result<String> {
    let name = format!("{host}-{interface}");
    match name.len() <= NAME_LIMIT {
        true => Ok(name),
        false => Err(Failure(format!("{name}: host and interface name together exceed {NAME_LIMIT} characters"))),
    }
}

impl Guest {
    /// Makes a link without hosts.
    pub(crate) fn link(&self, link: &str) -> Result<()> {
        let bridge = bridge_name(link);
        self.ip_batch(&format!(
            "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {bridge} up\n"
        ))
    }

    /// Gives `host` an interface on a link, up, without addresses beyond its link-local one. `None`: cable not plugged in.
    pub(crate) fn attach(&self, host: &Namespace, interface: &str, link: Option<&str>) -> Result<()> {
        if interface.len() < 2 {
            return Err(Failure(format!("{interface}: ip(8) takes so short a name for a word")));
        }
        let port = port_name(&host.name, interface)?;
        let mut lines = format!("link add {port} type veth peer name {interface} netns {}\n", host.name);
        if let Some(link) = link {
            lines += &format!("link set {port} master {} up\n", bridge_name(link));
        }
        self.ip_batch(&lines)?;
        host.ip_batch(&format!("link set {interface} up\n"))
    }

    /// Moves an interface to another link: carrier lost, port on the other bridge, carrier back.
    pub(crate) fn move_link(&self, host: &Namespace, interface: &str, link: &str) -> Result<()> {
        let port = port_name(&host.name, interface)?;
        self.ip_batch(&format!(
            "link set {port} down\n\
             link set {port} master {}\n\
             link set {port} up\n",
            bridge_name(link)
        ))
    }

    /// Pulls the cable: the interface stays up and loses its carrier.
    pub(crate) fn unplug(&self, host: &Namespace, interface: &str) -> Result<()> {
        let port = port_name(&host.name, interface)?;
        self.ip_batch(&format!("link set {port} down\nlink set {port} nomaster\n"))
    }

    /// Makes an interface lose, delay or duplicate packets, both ways, from now on.
    pub(crate) fn impair(&self, host: &Namespace, interface: &str, impairment: &Impairment) -> Result<()> {
        let port = port_name(&host.name, interface)?;
        let netem = impairment.netem();
        let words = |device: &str| format!("qdisc replace dev {device} root {netem}");
        output_of(tool("tc").args(words(&port).split_whitespace()))?;
        host.exec(&format!("tc {}", words(interface))).map(|_| ())
    }

    /// The same only for what comes to the interface: what it sends stays untouched on the link, where captures see it.
    pub(crate) fn impair_towards(&self, host: &Namespace, interface: &str, impairment: &Impairment) -> Result<()> {
        let words = format!("qdisc replace dev {} root {}", port_name(&host.name, interface)?, impairment.netem());
        output_of(tool("tc").args(words.split_whitespace())).map(|_| ())
    }

    /// Records everything that crosses a link into `FILE` in the output directory, until the capture is stopped.
    pub(crate) fn capture(&self, link: &str, file: &str) -> Result<Capture> {
        let pcap = self.output.join(file);
        let log = self.output.join(format!("{file}.log"));
        let errors = File::create(&log).context(log.display())?;
        // Given a file name it would change the file's owner, which the host allows only to root.
        let file = File::create(&pcap).context(pcap.display())?;
        let child = tool("tcpdump")
            .args(["-i", &bridge_name(link), "-n", "-U", "-s", "0", "-Z", "root", "--immediate-mode", "-w", "-"])
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .context("tcpdump")?;
        let mut tcpdump = Daemon::of(format!("tcpdump on {link}"), child, log);
        tcpdump.wait_for("listening on", Duration::from_secs(10))?;
        Ok(Capture { pcap, tcpdump })
    }
}

/// A running capture.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The file it writes.
    pub(crate) pcap: PathBuf,
    tcpdump: Daemon,
}

impl Capture {
    /// Ends the capture; the file is complete afterwards.
    pub(crate) fn stop(mut self) -> Result<PathBuf> {
        // A packet that was just forwarded must have reached the capture's socket.
        std::thread::sleep(Duration::from_millis(50));
        self.tcpdump.stop()?;
        Ok(self.pcap.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impairment_becomes_the_words_of_netem() {
        let impairment = Impairment { delay_ms: 20, loss_percent: 30.0, ..Impairment::default() };
        assert_eq!(impairment.netem(), "netem limit 10000 delay 20ms 0ms loss 30%");
        assert_eq!(Impairment::default().netem(), "netem limit 10000");
    }

    #[test]
    fn a_port_name_that_linux_would_cut_is_refused() {
        assert_eq!(port_name("mn", "eth0").unwrap(), "mn-eth0");
        assert!(port_name("correspondent", "eth0").is_err());
    }
}
