//! [`Report`]: the figures, as a table for people and as JSON for programs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::options::Options;
use super::world::Client;
use crate::shell;

/// What was measured so far.
#[derive(Debug)]
pub(super) struct Report {
    clients: Vec<Client>,
    command: String,
    rows: Vec<Row>,
}

/// One thing measured, for every client that could do it.
#[derive(Debug)]
struct Row {
    scenario: &'static str,
    what: String,
    unit: &'static str,
    values: Vec<(Client, Vec<f64>)>,
}

impl Report {
    pub(super) fn new(clients: &[Client], words: &[&str]) -> Self {
        let mut command = "cargo xtask bench".to_owned();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            // Where programs and files are is nobody else's business.
            match *word {
                "--docs" => {}
                "--programs" | "--json" => drop(words.next()),
                word => command = command + " " + word,
            }
        }
        Self { clients: clients.to_vec(), command, rows: Vec::new() }
    }

    /// Notes a figure, or several that belong together such as percentiles.
    pub(super) fn note(
        &mut self,
        scenario: &'static str,
        what: &str,
        unit: &'static str,
        client: Client,
        values: &[f64],
    ) {
        let text = figures(values);
        shell::say(&format!("{scenario:8} {:8} {what}: {text} {unit}", client.name()));
        let values = (client, values.to_vec());
        match self.rows.iter_mut().find(|row| row.scenario == scenario && row.what == what) {
            Some(row) => row.values.push(values),
            None => {
                let row = Row { scenario, what: what.to_owned(), unit, values: vec![values] };
                self.rows.push(row);
            }
        }
    }

    /// Says why a client has no figure.
    pub(super) fn miss(&self, scenario: &str, client: Client, why: &anyhow::Error) {
        shell::say(&format!("{scenario:8} {:8} no figure: {why:#}", client.name()));
    }

    /// Prints the table and writes the files.
    pub(super) fn finish(&self, options: &Options) -> anyhow::Result<()> {
        let table = self.table();
        shell::say(&format!("\n{table}"));
        if let Some(dir) = options.json.parent() {
            fs::create_dir_all(dir)?;
        }
        let json = serde_json::to_string_pretty(&self.json())?;
        fs::write(&options.json, json + "\n").context("cannot write the JSON file")?;
        shell::say(&format!("written: {}", options.json.display()));
        if options.docs {
            let path = shell::root().join("docs/benchmarks.md");
            // What people wrote about the figures is theirs.
            let old = fs::read_to_string(&path).unwrap_or_default();
            let notes = old.find(NOTES).and_then(|at| old.get(at..)).unwrap_or_default();
            fs::write(&path, self.page(&table) + notes)
                .context("cannot write docs/benchmarks.md")?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        let names = self.clients.iter().map(|client| client.name());
        let mut lines = vec![row(["what", "unit"].into_iter().chain(names).map(str::to_owned))];
        let dashes = |count: usize| row(std::iter::repeat_n("---".to_owned(), count));
        lines.push(dashes(self.clients.len() + 2));
        for measured in &self.rows {
            let value = |client: &Client| {
                let found = measured.values.iter().find(|(who, _)| who == client);
                found.map_or("–".to_owned(), |(_, values)| figures(values))
            };
            let what = [format!("{}: {}", measured.scenario, measured.what), measured.unit.into()];
            lines.push(row(what.into_iter().chain(self.clients.iter().map(value))));
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().flat_map(|row| {
            row.values.iter().map(|(client, values)| {
                json!({
                    "scenario": row.scenario,
                    "what": row.what,
                    "unit": row.unit,
                    "client": client.name(),
                    "values": values,
                })
            })
        });
        json!({
            "command": self.command,
            "machine": machine(),
            "versions": versions(),
            "figures": rows.collect::<Vec<_>>(),
        })
    }

    fn page(&self, table: &str) -> String {
        let versions: Vec<String> =
            versions().into_iter().map(|line| format!("* {line}")).collect();
        format!(
            "# Benchmarks\n\n\
             The last full run. To repeat it, as root on Linux:\n\n\
             ```sh\n{}\n```\n\n\
             {ABOUT}\n\n{table}\n\n\
             On {}, commit {}, with:\n\n{}\n",
            self.command,
            machine(),
            commit(),
            versions.join("\n")
        )
    }
}

/// Where the page's own part ends.
const NOTES: &str = "\n## Notes\n";

/// What the figures mean; the same for every run.
const ABOUT: &str = "\
All clients meet the same stock sshd in one run, on the same machine, over links that `netlab` makes.
Several numbers in one cell are percentiles, as the row says; `never` is no answer within the time allowed; `–` is not measured, because the client cannot do it.

* **prompt**: from starting the client to the shell's prompt. Round trips are the slope of that time between 100 and 200 ms, so neither programs nor key generation count.
* **echo**: a key every 100 to 200 ms, from typing to its echo by the far terminal; loss is per direction. mosh does not predict here.
* **roam**: from typing at once after the change, and again every 250 ms, to the first echo. *Handover*: the client's interface goes away and another one with another address is left. *Address*: the interface gets another address. *Rebinding*: a NAT forgets, and nobody is told.
* **forward**, **pipe**: bytes that arrive, after the first second. *Clean* is a link without limits; *lossy* has 100 Mbit/s, 50 ms, 1 % loss, a queue of 400 packets.
* **pty**: text through a terminal, clean link.
* **idle**: a shell at its prompt. Memory is the proportional set size of the session's own processes, without the shell; packets are counted on the link, both directions.";

/// Returns figures with as many digits as mean something.
fn figures(values: &[f64]) -> String {
    let text = values.iter().map(|value| match value {
        value if value.is_infinite() => "never".to_owned(),
        value if value.abs() < 10.0 => format!("{value:.2}"),
        value if value.abs() < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    });
    text.collect::<Vec<_>>().join(" / ")
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.fold("|".to_owned(), |line, cell| format!("{line} {cell} |"))
}

/// Returns the first line each program says of itself.
fn versions() -> Vec<String> {
    let programs = [["ssh", "-V"], ["mosh", "--version"], ["uname", "-sr"]];
    let lines = programs.iter().filter_map(|[program, flag]| {
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
    });
    lines.collect()
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} × {}", model.map_or("unknown processor", |(_, name)| name.trim()))
}

fn commit() -> String {
    shell::output(shell::command(&["git", "rev-parse", "--short", "HEAD"]))
        .map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

/// Returns milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns percentiles of some values; what is missing of `count` counts as never.
pub(super) fn percentiles(mut values: Vec<f64>, count: usize, which: &[f64]) -> Vec<f64> {
    values.resize(count.max(values.len()), f64::INFINITY);
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a small number"
        )]
        let index = (share * (values.len().saturating_sub(1)) as f64).round() as usize;
        values.get(index).copied().unwrap_or(f64::INFINITY)
    };
    which.iter().map(|share| at(*share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_is_worse_than_anything_that_did() {
        let values = (1..=90).map(f64::from).collect();
        assert_eq!(percentiles(values, 100, &[0.0, 0.5, 0.99]), [1.0, 51.0, f64::INFINITY]);
        assert_eq!(figures(&[1.0, 51.04, f64::INFINITY]), "1.00 / 51.0 / never");
    }

    #[test]
    fn the_table_has_a_gap_where_a_client_has_no_figure() {
        let mut report =
            Report::new(&[Client::OpenSsh, Client::Mosh], &["pty", "--json", "x", "--docs"]);
        report.note("pty", "clean", "Mbit/s", Client::OpenSsh, &[487.2]);
        assert_eq!(report.command, "cargo xtask bench pty");
        assert!(report.table().ends_with("| pty: clean | Mbit/s | 487 | – |"), "{report:?}");
    }
}
