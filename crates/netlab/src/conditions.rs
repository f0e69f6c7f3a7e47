//! [`Conditions`]: what a link does to the packets of one direction, and the
//! words by which a person says so.

use std::fmt;
use std::time::Duration;

/// How one direction of a link treats packets.
///
/// A packet first waits for the transmitter (`rate`, `queue`), then may be
/// lost on the wire, and what is not lost arrives after `delay`. The default
/// is a perfect link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// How long a packet is under way.
    pub delay: Duration,
    /// Up to this much more, evenly drawn per packet. Order is kept: a packet
    /// arrives no earlier than the one before it.
    pub jitter: Duration,
    /// Share of packets lost on the wire, 0.0 to 1.0.
    pub loss: f64,
    /// Mean number of packets lost in a row; at 1.0 or less each packet's luck
    /// is its own. The share of lost packets is `loss` either way.
    pub burst: f64,
    /// Bits per second, counted over whole IP packets; `None` is unlimited.
    pub rate: Option<u64>,
    /// Packets that may wait for or be in the transmitter; one more is
    /// dropped. Of no meaning without `rate`.
    pub queue: usize,
    /// Share of packets that are held back by `reorder_by`, so that later ones overtake them.
    pub reorder: f64,
    /// See `reorder`.
    pub reorder_by: Duration,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Longest IP packet that passes, in bytes; at least 576. Longer ones are
    /// split where IPv4 allows it and dropped otherwise.
    pub mtu: Option<u16>,
    /// Whether the sender is told of a packet dropped because of `mtu`.
    pub icmp: bool,
    /// Whether UDP passes.
    pub udp: bool,
    /// Whether IPv4 passes.
    pub ipv4: bool,
    /// Whether IPv6 passes.
    pub ipv6: bool,
    /// The only TCP port that passes, as with a firewall that knows ssh and nothing else.
    pub only: Option<u16>,
    /// Nothing passes, and nobody is told.
    pub down: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            rate: None,
            queue: 1000,
            reorder: 0.0,
            reorder_by: Duration::from_millis(10),
            duplicate: 0.0,
            mtu: None,
            icmp: true,
            udp: true,
            ipv4: true,
            ipv6: true,
            only: None,
            down: false,
        }
    }
}

impl Conditions {
    /// Returns a link that only takes its time.
    #[must_use]
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Changes one condition by a word such as `delay=50ms`, `loss=0.2`,
    /// `burst=4`, `rate=100M`, `mtu=1280`, `icmp=off`, `udp=off`, `ipv6=off`, `only=22` or
    /// `down`.
    ///
    /// `clear` makes the link perfect again.
    ///
    /// # Errors
    /// [`BadWord`] when there is no such condition or value; nothing is changed.
    pub fn set(&mut self, word: &str) -> Result<(), BadWord> {
        let bad = || BadWord(word.to_owned());
        let (name, value) = word.split_once('=').unwrap_or((word, "on"));
        let time = || duration(value).ok_or_else(bad);
        let share = || number(value).filter(|share| *share <= 1.0).ok_or_else(bad);
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(bad()),
        };
        match name {
            "delay" => self.delay = time()?,
            "jitter" => self.jitter = time()?,
            "loss" => self.loss = share()?,
            "burst" => self.burst = number(value).ok_or_else(bad)?,
            "rate" if value == "off" => self.rate = None,
            "rate" => self.rate = Some(rate(value).ok_or_else(bad)?),
            "queue" => self.queue = value.parse().map_err(|_| bad())?,
            "reorder" => self.reorder = share()?,
            "reorder-by" => self.reorder_by = time()?,
            "duplicate" => self.duplicate = share()?,
            "mtu" if value == "off" => self.mtu = None,
            "mtu" => {
                let mtu = value.parse().ok().filter(|mtu| *mtu >= 576);
                self.mtu = Some(mtu.ok_or_else(bad)?);
            }
            "icmp" => self.icmp = switch()?,
            "udp" => self.udp = switch()?,
            "ipv4" => self.ipv4 = switch()?,
            "ipv6" => self.ipv6 = switch()?,
            "only" if value == "off" => self.only = None,
            "only" => self.only = Some(value.parse().map_err(|_| bad())?),
            "down" => self.down = switch()?,
            "up" => self.down = !switch()?,
            "clear" if value == "on" => *self = Self::default(),
            _ => return Err(bad()),
        }
        Ok(())
    }
}

impl fmt::Display for Conditions {
    /// Prints what differs from a perfect link, in the words of [`Conditions::set`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let perfect = Self::default();
        let mut words = Vec::new();
        let mut say = |differs: bool, word: String| words.extend(differs.then_some(word));
        let ms = |time: Duration| format!("{}ms", time.as_secs_f64() * 1e3);
        say(self.delay != perfect.delay, format!("delay={}", ms(self.delay)));
        say(self.jitter != perfect.jitter, format!("jitter={}", ms(self.jitter)));
        say(self.loss > 0.0, format!("loss={}", self.loss));
        say(self.burst > 1.0, format!("burst={}", self.burst));
        say(self.rate.is_some(), format!("rate={}", self.rate.unwrap_or_default()));
        say(self.queue != perfect.queue, format!("queue={}", self.queue));
        say(self.reorder > 0.0, format!("reorder={}", self.reorder));
        let differs = self.reorder_by != perfect.reorder_by;
        say(differs, format!("reorder-by={}", ms(self.reorder_by)));
        say(self.duplicate > 0.0, format!("duplicate={}", self.duplicate));
        say(self.mtu.is_some(), format!("mtu={}", self.mtu.unwrap_or_default()));
        say(!self.icmp, "icmp=off".to_owned());
        say(!self.udp, "udp=off".to_owned());
        say(!self.ipv4, "ipv4=off".to_owned());
        say(!self.ipv6, "ipv6=off".to_owned());
        say(self.only.is_some(), format!("only={}", self.only.unwrap_or_default()));
        say(self.down, "down".to_owned());
        f.write_str(if words.is_empty() { "perfect" } else { "" })?;
        f.write_str(&words.join(" "))
    }
}

/// A word that names no condition or has no proper value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadWord(pub String);

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a condition of a link, such as delay=50ms or loss=0.2", self.0)
    }
}

impl std::error::Error for BadWord {}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// Reads `50ms`, `1.5s`, `300us`, `2m`; a bare number is milliseconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let seconds = match unit {
        "us" => 1e-6,
        "" | "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number(digits)? * seconds).ok()
}

/// Reads bits per second: `100M`, `1.5M`, `64k`, `1G`, `9600`.
fn rate(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' => (text.strip_suffix('k')?, 1e3),
        b'M' => (text.strip_suffix('M')?, 1e6),
        b'G' => (text.strip_suffix('G')?, 1e9),
        _ => (text, 1.0),
    };
    let rate = number(digits)? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; an f64 to u64 cast saturates"
    )]
    Some(rate as u64).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_said_again() {
        let mut conditions = Conditions::default();
        for word in "delay=50ms jitter=1.5ms loss=0.2 burst=4 rate=1.5M queue=7 reorder=0.1 \
             reorder-by=3ms duplicate=0.01 mtu=1280 icmp=off udp=off ipv4=off ipv6=off only=22 down"
            .split_whitespace()
        {
            conditions.set(word).expect(word);
        }
        assert_eq!((conditions.rate, conditions.burst), (Some(1_500_000), 4.0));
        let mut again = Conditions::default();
        for word in conditions.to_string().split_whitespace() {
            again.set(word).expect(word);
        }
        assert_eq!(again, conditions);
        again.set("clear").expect("clear");
        assert_eq!(again.to_string(), "perfect");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let mut conditions = Conditions::delayed(Duration::from_millis(5));
        for word in [
            "loss=1.5", "loss=-1", "loss=NaN", "delay=5h", "mtu=100", "rate=0", "speed=1", "icmp=1",
        ] {
            assert_eq!(conditions.set(word), Err(BadWord(word.to_owned())));
        }
        assert_eq!(conditions, Conditions::delayed(Duration::from_millis(5)));
    }
}
