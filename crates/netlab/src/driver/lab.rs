//! [`Lab`]: two hosts and their links, as long as the value lives.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::pump::{self, Device, Shared};
use crate::network::{Direction, LinkConfig, LinkId, Network, Side};
use crate::{Conditions, Counters, Host, NatConfig};

/// Why there is no lab, or why it does not do what it was asked to.
#[derive(Debug)]
pub struct LabError {
    doing: &'static str,
    source: io::Error,
}

impl std::fmt::Display for LabError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.doing)
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Turns an error of the system into one that says what failed.
fn doing(doing: &'static str) -> impl Fn(io::Error) -> LabError {
    move |source| LabError { doing, source }
}

/// Returns what this machine lacks for a lab, or `None` when it lacks nothing.
#[must_use]
pub fn why_not() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can make network namespaces");
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun");
    }
    let ip = std::process::Command::new("ip").arg("-V").output();
    if ip.is_err() { Some("the program ip (iproute2) is missing") } else { None }
}

/// Settings of a [`Lab`].
#[derive(Clone, Debug, Default)]
pub struct LabBuilder {
    links: Vec<LinkConfig>,
    seed: u64,
}

impl LabBuilder {
    /// Adds a link; the first is the one the client uses as long as it is plugged in.
    #[must_use]
    pub fn link(mut self, config: LinkConfig) -> Self {
        self.links.push(config);
        self
    }

    /// Decides all luck.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes the hosts and the links; packets flow when this returns.
    ///
    /// # Errors
    /// [`LabError`]; [`why_not`] tells beforehand what is missing.
    pub fn start(self) -> Result<Lab, LabError> {
        let host = |side| Host::new(side).map_err(doing("make a network namespace"));
        let hosts = [host(Side::Client)?, host(Side::Server)?];
        let mut devices = Vec::new();
        for (id, config) in (0..).zip(&self.links) {
            for host in &hosts {
                let tun = host.open_tun(&device(LinkId(id)), config.offload);
                let tun = tun.map_err(doing("open a TUN device"))?;
                devices.push(Device { link: LinkId(id), side: host.side(), tun });
            }
        }
        let network = Network::new(&self.links, self.seed);
        let shared = Arc::new(Shared::new(network).map_err(doing("make an eventfd"))?);
        let addresses = Mutex::new(vec![1; self.links.len()]);
        let mut lab = Lab { hosts, shared, addresses, pump: None };
        lab.configure()?;
        let shared = Arc::clone(&lab.shared);
        let thread = std::thread::Builder::new().name("netlab".into());
        let thread = thread.spawn(move || pump::run(&shared, &devices));
        lab.pump = Some(thread.map_err(doing("start a thread"))?);
        Ok(lab)
    }
}

/// Two hosts and the links between them; all is gone when it is dropped,
/// except for programs that still run in the hosts.
#[derive(Debug)]
pub struct Lab {
    hosts: [Host; 2],
    shared: Arc<Shared>,
    /// The last number of the client's address on each link.
    addresses: Mutex<Vec<u8>>,
    pump: Option<JoinHandle<()>>,
}

impl Lab {
    /// Begins a lab.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// Returns a host.
    #[must_use]
    pub fn host(&self, side: Side) -> &Host {
        let [client, server] = &self.hosts;
        if side == Side::Client { client } else { server }
    }

    /// Returns the number of links.
    #[must_use]
    pub fn links(&self) -> usize {
        self.shared.with(|network| network.links())
    }

    /// Returns how one direction treats packets; `None` when there is no such link.
    #[must_use]
    pub fn conditions(&self, link: LinkId, direction: Direction) -> Option<Conditions> {
        self.shared.with(|network| network.pipe(link, direction).map(|pipe| *pipe.conditions()))
    }

    /// Treats packets of one direction otherwise from now on.
    pub fn set_conditions(&self, link: LinkId, direction: Direction, conditions: Conditions) {
        self.shared.with(|network| network.set_conditions(link, direction, conditions));
    }

    /// Treats packets of both directions otherwise from now on.
    pub fn set_both(&self, link: LinkId, conditions: Conditions) {
        for direction in Direction::BOTH {
            self.set_conditions(link, direction, conditions);
        }
    }

    /// Returns what became of the packets of one direction.
    #[must_use]
    pub fn counters(&self, link: LinkId, direction: Direction) -> Counters {
        self.shared.with(|network| network.counters(link, direction))
    }

    /// Returns how a link's NAT behaves, if it has one.
    #[must_use]
    pub fn nat(&self, link: LinkId) -> Option<NatConfig> {
        self.shared.with(|network| network.nat(link))
    }

    /// Gives a link a NAT, changes it, or takes it away.
    pub fn set_nat(&self, link: LinkId, config: Option<NatConfig>) {
        self.shared.with(|network| network.set_nat(link, config));
    }

    /// Lets a link's NAT forget its mappings; nobody is told.
    pub fn rebind(&self, link: LinkId) {
        self.shared.with(|network| network.rebind(link));
    }

    /// Takes a link away from the client: its interface goes down, the addresses and routes with it.
    ///
    /// # Errors
    /// [`LabError`] when `ip` says so.
    pub fn unplug(&self, link: LinkId) -> Result<(), LabError> {
        let lines = format!("link set {} down\n", device(link));
        self.host(Side::Client).ip(&lines).map_err(doing("unplug a link"))
    }

    /// Gives the client a link (back), with its address and routes.
    ///
    /// # Errors
    /// [`LabError`] when `ip` says so.
    pub fn plug(&self, link: LinkId) -> Result<(), LabError> {
        let lines = client_lines(link, self.address(link));
        self.host(Side::Client).ip(&lines).map_err(doing("plug in a link"))
    }

    /// Lets the client use this link from now on, as when a better network has
    /// been found; the others stay plugged in.
    ///
    /// # Errors
    /// [`LabError`] when `ip` says so.
    pub fn prefer(&self, link: LinkId) -> Result<(), LabError> {
        let dev = device(link);
        let lines = format!(
            "route replace 0.0.0.0/0 dev {dev} metric 50\n\
             route replace ::/0 dev {dev} metric 50\n"
        );
        self.host(Side::Client).ip(&lines).map_err(doing("change the route"))
    }

    /// Gives the client another address on a link: the new one comes, the old one goes.
    ///
    /// # Errors
    /// [`LabError`] when `ip` says so.
    pub fn change_address(&self, link: LinkId) -> Result<(), LabError> {
        let old = self.address(link);
        let new = if old < 250 { old + 1 } else { 1 };
        let dev = device(link);
        let LinkId(id) = link;
        let lines = format!(
            "addr add 10.77.{id}.{new}/32 dev {dev}\n\
             addr add fd77:0:0:{id:x}::{new:x}/128 dev {dev} nodad\n\
             addr del 10.77.{id}.{old}/32 dev {dev}\n\
             addr del fd77:0:0:{id:x}::{old:x}/128 dev {dev}\n"
        );
        self.host(Side::Client).ip(&lines).map_err(doing("change an address"))?;
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = addresses.get_mut(usize::from(id)) {
            *address = new;
        }
        Ok(())
    }

    /// Returns the last number of the client's address on a link.
    fn address(&self, link: LinkId) -> u8 {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(usize::from(link.0)).copied().unwrap_or(1)
    }

    /// Gives both hosts their addresses and routes.
    fn configure(&self) -> Result<(), LabError> {
        let mut client = "link set lo up\n".to_owned();
        let mut server = "link set lo up\n\
            addr add 10.77.255.1/32 dev lo\n\
            addr add fd77:0:0:ff::1/128 dev lo nodad\n"
            .to_owned();
        for id in (0_u8..).take(self.links()) {
            client += &client_lines(LinkId(id), 1);
            let dev = device(LinkId(id));
            let _ = write!(
                server,
                "link set {dev} addrgenmode none\n\
                 link set {dev} txqueuelen {QUEUE} up\n\
                 route add 10.77.{id}.0/24 dev {dev} src 10.77.255.1\n\
                 route add 10.78.{id}.0/24 dev {dev} src 10.77.255.1\n\
                 route add fd77:0:0:{id:x}::/64 dev {dev} src fd77:0:0:ff::1\n"
            );
        }
        self.host(Side::Client).ip(&client).map_err(doing("set up the client's addresses"))?;
        self.host(Side::Server).ip(&server).map_err(doing("set up the server's addresses"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.pump.take() {
            let _ = thread.join();
        }
    }
}

/// Packets a device keeps until the lab's thread takes them: enough for a
/// burst of a fast sender, which is not to lose any here.
const QUEUE: u32 = 10_000;

fn device(link: LinkId) -> String {
    format!("lab{}", link.0)
}

/// Returns what gives the client its end of a link, also for the second time.
fn client_lines(link: LinkId, address: u8) -> String {
    let (dev, LinkId(id)) = (device(link), link);
    let metric = 100 + u32::from(id);
    format!(
        "link set {dev} addrgenmode none\n\
         link set {dev} txqueuelen {QUEUE} up\n\
         addr replace 10.77.{id}.{address}/32 dev {dev}\n\
         addr replace fd77:0:0:{id:x}::{address:x}/128 dev {dev} nodad\n\
         route replace 0.0.0.0/0 dev {dev} metric {metric}\n\
         route replace ::/0 dev {dev} metric {metric}\n"
    )
}
