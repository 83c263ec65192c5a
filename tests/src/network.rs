//! A small network for the nodes of a cluster: a host of its own for each, on one bridge, as network namespaces.
//!
//! Keeps true: what is cut is cut one way, silently, also for connections that are open, as by a broken switch:
//! frames go to a hardware address that nobody has. Everything is gone with this value. Needs root and iproute2;
//! where either is missing, nodes share the loopback interface and links cannot be cut.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::{install, process};

const COMMAND_LIMIT: Duration = Duration::from_secs(20);
/// An address of the range for locally administered ones that no interface gets.
const NOBODY: &str = "02:00:00:00:00:fe";
/// Of 198.18.0.0/15, which RFC 2544 sets aside for tests of networks.
const NETWORKS: u8 = 250;
const CLIENTS_HOST: u8 = 254;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// By its place in the cluster.
    Node(usize),
    /// Where clients and tests run: the machine itself.
    Clients,
}

/// The hosts and which links between them are cut.
#[derive(Debug)]
pub struct Network {
    /// Third byte of its addresses, and part of all names.
    number: u8,
    hosts: usize,
    cut: Vec<(Host, Host)>,
    slowed: Vec<usize>,
}

impl Network {
    /// An empty network; `None` where this user may not make one.
    pub fn open() -> Result<Option<Self>> {
        if install::iproute::installed()?.is_none() {
            return Ok(None);
        }
        let mut last = None;
        for number in 0..NETWORKS {
            // The bridge's name is taken by whoever makes it first.
            match ip(&format!("link add {} type bridge", bridge(number))) {
                Ok(()) => {
                    let network = Self { number, hosts: 0, cut: Vec::new(), slowed: Vec::new() };
                    let name = bridge(number);
                    ip(&format!("addr add {}/24 dev {name}", network.address(Host::Clients)))?;
                    ip(&format!("link set {name} up"))?;
                    return Ok(Some(network));
                }
                Err(error) if error.to_string().contains("File exists") => last = Some(error),
                Err(_not_allowed) => return Ok(None),
            }
        }
        bail!("{NETWORKS} networks of tests are there: {last:?}")
    }

    /// One more host; its number is its place.
    pub fn add_host(&mut self) -> Result<usize> {
        let place = self.hosts;
        let (space, outer) = (self.space(place), self.link(place));
        let bridge = bridge(self.number);
        ip(&format!("netns add {space}"))?;
        self.hosts += 1;
        ip(&format!("link add {outer} type veth peer name eth0 netns {space}"))?;
        ip(&format!("link set {outer} master {bridge} up"))?;
        ip(&format!("-n {space} addr add {}/24 dev eth0", self.address(Host::Node(place))))?;
        ip(&format!("-n {space} link set lo up"))?;
        ip(&format!("-n {space} link set eth0 up"))?;
        Ok(place)
    }

    /// The host that came last goes, and all that was done to its links.
    pub fn remove_last_host(&mut self) -> Result<()> {
        ensure!(self.hosts > 0, "no host is there");
        let last = Host::Node(self.hosts - 1);
        ensure!(!self.cut.iter().any(|(from, to)| [from, to].contains(&&last)), "a link of the last host is cut");
        self.remove_host(self.hosts - 1)?;
        self.hosts -= 1;
        self.slowed.retain(|place| Host::Node(*place) != last);
        Ok(())
    }

    fn remove_host(&self, place: usize) -> Result<()> {
        // Its end of the link goes with it, once no process runs there any more.
        ip(&format!("link del {}", self.link(place)))?;
        ip(&format!("netns del {}", self.space(place)))
    }

    pub fn address(&self, host: Host) -> Ipv4Addr {
        let last = match host {
            Host::Node(place) => u8::try_from(place + 1).unwrap_or(CLIENTS_HOST - 1),
            Host::Clients => CLIENTS_HOST,
        };
        Ipv4Addr::new(198, 18, self.number, last)
    }

    /// What stands before a command so that it runs on a host.
    pub fn wrapper(&self, place: usize) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.space(place))]
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub fn cut(&mut self, from: Host, to: Host) -> Result<()> {
        if !self.cut.contains(&(from, to)) {
            let (space, device) = self.inside(from);
            ip(&format!("{space} neigh replace {} lladdr {NOBODY} dev {device} nud permanent", self.address(to)))?;
            self.cut.push((from, to));
        }
        Ok(())
    }

    /// Both ways.
    pub fn part(&mut self, one: Host, other: Host) -> Result<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// What a host sends to all others passes at this pace, as over a bad line.
    pub fn slow(&mut self, place: usize, kilobits: u32) -> Result<()> {
        ensure!(place < self.hosts, "no host {place}");
        let (space, rate) = (self.space(place), format!("rate {kilobits}kbit burst 16kb latency 500ms"));
        tool("tc", &format!("-n {space} qdisc replace dev eth0 root tbf {rate}"))?;
        self.slowed.push(place);
        Ok(())
    }

    /// What a host sends arrives later.
    pub fn delay(&mut self, place: usize, delay: Duration) -> Result<()> {
        ensure!(place < self.hosts, "no host {place}");
        let (space, ms) = (self.space(place), delay.as_millis());
        tool("tc", &format!("-n {space} qdisc replace dev eth0 root netem delay {ms}ms {}ms", ms / 4))?;
        self.slowed.push(place);
        Ok(())
    }

    /// Whether the kernel has what [`Self::delay`] needs.
    pub fn can_delay(&self) -> bool {
        let lo = format!("-n {} qdisc", self.space(0));
        let can = self.hosts > 0 && tool("tc", &format!("{lo} replace dev lo root netem delay 0ms")).is_ok();
        can && tool("tc", &format!("{lo} del dev lo root")).is_ok()
    }

    /// All links are whole again.
    pub fn heal(&mut self) -> Result<()> {
        for (from, to) in std::mem::take(&mut self.cut) {
            let (space, device) = self.inside(from);
            ip(&format!("{space} neigh del {} dev {device}", self.address(to)))?;
        }
        for place in std::mem::take(&mut self.slowed) {
            tool("tc", &format!("-n {} qdisc del dev eth0 root", self.space(place)))?;
        }
        Ok(())
    }

    fn inside(&self, host: Host) -> (String, String) {
        match host {
            Host::Node(place) => (format!("-n {}", self.space(place)), "eth0".to_owned()),
            Host::Clients => (String::new(), bridge(self.number)),
        }
    }

    fn space(&self, place: usize) -> String {
        format!("{}-{place}", bridge(self.number))
    }

    fn link(&self, place: usize) -> String {
        format!("{}v{place}", bridge(self.number))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in 0..self.hosts {
            let _gone = self.remove_host(place);
        }
        let _gone = ip(&format!("link del {}", bridge(self.number)));
    }
}

fn bridge(number: u8) -> String {
    format!("rmqtest{number}")
}

fn ip(words: &str) -> Result<()> {
    tool("ip", words)
}

fn tool(program: &str, words: &str) -> Result<()> {
    process::run(Command::new(program).args(words.split_whitespace()), COMMAND_LIMIT)?;
    Ok(())
}
