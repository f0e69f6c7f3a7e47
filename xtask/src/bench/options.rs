//! The words after `cargo xtask bench`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use netlab::Conditions;

use super::Scenario;
use super::world::Client;

/// What is to be measured, and under which conditions.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) scenarios: Vec<Scenario>,
    pub(super) clients: Vec<Client>,
    /// Conditions that replace a scenario's own: per direction, from `--rtt`,
    /// `--loss`, `--burst`, `--rate`, `--queue`.
    pub(super) conditions: Option<Conditions>,
    /// Keystrokes for each row of `echo`.
    pub(super) keys: usize,
    /// Repetitions, where a scenario takes the median.
    pub(super) runs: usize,
    /// How long throughput is measured.
    pub(super) time: Duration,
    /// Where programs are that need not be built.
    pub(super) programs: Option<PathBuf>,
    pub(super) json: PathBuf,
    /// Whether docs/benchmarks.md is to be written.
    pub(super) docs: bool,
    pub(super) seed: u64,
}

pub(super) const HELP: &str = "\
usage: cargo xtask bench [SCENARIO ...] [OPTION ...]

  prompt    login to prompt, without delay and in round trips
  echo      keystroke to echo under loss
  roam      keystroke to echo after a handover, a change of address, a NAT's rebinding
  forward   throughput of -L, up and down
  pipe      throughput of a command's input and output
  pty       throughput of text through a terminal
  idle      memory, processor time and packets of a session in which nothing happens

  --client NAME   openssh, mosh, tssh (over ssh), quic, kcp, tcp (QUIC over TCP); repeatable
  --rtt MS --loss SHARE --burst PACKETS --rate BITS --queue PACKETS
                  conditions of the link instead of the scenario's own
  --keys N        keystrokes for each row of echo (300)
  --runs N        repetitions, of which the median counts (5)
  --time S        seconds for each throughput (5)
  --seed N        the lab's luck (1)
  --programs DIR  measure the tssh and tsshd there instead of building them
  --json FILE     where the figures go as well (target/bench.json)
  --docs          write docs/benchmarks.md";

impl Options {
    pub(super) fn read(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            scenarios: Vec::new(),
            clients: Vec::new(),
            conditions: None,
            keys: 300,
            runs: 5,
            time: Duration::from_secs(5),
            programs: None,
            json: crate::shell::root().join("target/bench.json"),
            docs: false,
            seed: 1,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(scenario) = Scenario::ALL.iter().find(|known| known.name() == *word) {
                options.scenarios.push(*scenario);
                continue;
            }
            if *word == "--docs" {
                options.docs = true;
                continue;
            }
            let Some(flag) = word.strip_prefix("--") else { bail!("{word}?\n{HELP}") };
            let Some(value) = words.next() else { bail!("{word} wants a value\n{HELP}") };
            options.set(flag, value).with_context(|| format!("--{flag} {value}\n{HELP}"))?;
        }
        if options.scenarios.is_empty() {
            options.scenarios = Scenario::ALL.into();
        }
        if options.clients.is_empty() {
            options.clients = Client::ALL.into();
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> anyhow::Result<()> {
        match flag {
            "client" => {
                let client = Client::ALL.iter().find(|client| client.name() == value);
                self.clients.push(*client.context("there is no such client")?);
            }
            "keys" => self.keys = value.parse()?,
            "runs" => self.runs = value.parse::<usize>()?.max(1),
            "time" => self.time = Duration::try_from_secs_f64(value.parse()?)?,
            "seed" => self.seed = value.parse()?,
            "programs" => self.programs = Some(std::path::absolute(value)?),
            "json" => self.json = value.into(),
            "rtt" => {
                let rtt = Duration::try_from_secs_f64(value.parse::<f64>()? / 1e3)?;
                self.conditions.get_or_insert_default().delay = rtt / 2;
            }
            "loss" | "burst" | "rate" | "queue" => {
                self.conditions.get_or_insert_default().set(&format!("{flag}={value}"))?;
            }
            _ => bail!("there is no such option"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_alone_takes_its_conditions_from_the_command_line() {
        let words = ["echo", "--loss", "0.2", "--rtt", "80", "--client", "kcp"];
        let options = Options::read(&words).expect("good words");
        assert_eq!(options.scenarios, [Scenario::Echo]);
        assert_eq!(options.clients, [Client::Kcp]);
        let conditions = options.conditions.expect("conditions");
        assert_eq!((conditions.loss, conditions.delay), (0.2, Duration::from_millis(40)));
    }

    #[test]
    fn nothing_said_is_everything_and_nonsense_is_refused() {
        let options = Options::read(&[]).expect("no words");
        assert_eq!(options.scenarios, Scenario::ALL);
        assert_eq!(options.conditions, None);
        for words in [&["speed"][..], &["--loss", "2"], &["--client", "putty"], &["--rtt"]] {
            assert!(Options::read(words).is_err(), "{words:?}");
        }
    }
}
