//! A place where both programs resolve the same files, and how they are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use tssh::cli;
use tssh::config::{Environment, resolve};

/// A directory with configuration files, and the place both programs run in.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) environment: Environment,
}

/// What a program made of a configuration.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Values by keyword, in order; `None` if it refused.
    pub(crate) values: Option<BTreeMap<String, Vec<String>>>,
    /// What it printed to standard error, or our error's text.
    pub(crate) complaint: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut environment = Environment::of_process().expect("this process has a user");
        environment.variables = VARIABLES
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self { directory, environment }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file; `@` in the text stands for the directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let text = text.replace('@', &self.directory.path().to_string_lossy());
        std::fs::write(self.path(name), text).expect("a writable directory");
    }

    /// Resolves with our own code, with `-F config` before the given arguments.
    pub(crate) fn ours(&self, arguments: &[&str]) -> Outcome {
        let result = cli::parse(self.arguments(arguments).into_iter())
            .map_err(|error| error.to_string())
            .and_then(|line| resolve(&line, &self.environment).map_err(|error| error.to_string()));
        match result {
            Ok(settings) => Outcome {
                values: Some(by_keyword(settings.to_lines().iter().map(String::as_str))),
                complaint: String::new(),
            },
            Err(complaint) => Outcome { values: None, complaint },
        }
    }

    /// Resolves with `ssh -G`; `None` if there is no ssh.
    pub(crate) fn theirs(&self, arguments: &[&str]) -> Option<Outcome> {
        let output = Command::new("ssh")
            .arg("-G")
            .args(self.arguments(arguments))
            .env_clear()
            .envs(VARIABLES.iter().copied())
            .output()
            .ok()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let values = output.status.success().then(|| by_keyword(stdout.lines()));
        Some(Outcome {
            values,
            // Its lines end as a terminal wants them.
            complaint: String::from_utf8_lossy(&output.stderr).replace('\r', "").trim().to_owned(),
        })
    }

    pub(crate) fn arguments(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut all = vec!["-F".into(), self.path("config").into_os_string()];
        all.extend(arguments.iter().map(OsString::from));
        all
    }

    /// Compares both programs; `None` if there is nothing to compare with, otherwise the
    /// differences.
    pub(crate) fn compare(&self, arguments: &[&str]) -> Option<Vec<String>> {
        let theirs = self.theirs(arguments)?;
        let ours = self.ours(arguments);
        let (Some(our_values), Some(their_values)) = (&ours.values, &theirs.values) else {
            let agree = ours.values.is_some() == theirs.values.is_some();
            let difference =
                format!("one refused: ours {:?}, theirs {:?}", ours.complaint, theirs.complaint);
            return Some(if agree { Vec::new() } else { vec![difference] });
        };
        let mut differences = Vec::new();
        let keywords: BTreeSet<&String> = our_values.keys().chain(their_values.keys()).collect();
        for keyword in keywords.into_iter().filter(|keyword| !is_excepted(keyword)) {
            let our_value = self.normal(keyword, our_values);
            let their_value = self.normal(keyword, their_values);
            if has_tokens(keyword, &their_value) {
                continue;
            }
            if our_value != their_value {
                differences.push(format!("{keyword}: ours {our_value:?}, theirs {their_value:?}"));
            }
        }
        Some(differences)
    }

    /// Brings values into the one form that both programs are compared in.
    fn normal(&self, keyword: &str, all: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let home = self.environment.home.to_string_lossy();
        let mut values = all.get(keyword).cloned().unwrap_or_default();
        match keyword {
            // ssh prints identity files as written; DSA and XMSS keys are gone.
            "identityfile" => {
                values.retain(|v| !v.ends_with("/id_dsa") && !v.ends_with("/id_xmss"));
                for value in &mut values {
                    if let Some(rest) = value.strip_prefix("~/") {
                        *value = format!("{home}/{rest}");
                    }
                }
                values.retain(|v| v != "none");
            }
            // ssh prints the patterns, we the variables that they match.
            "sendenv" => {
                let patterns = values.clone();
                values = VARIABLES
                    .iter()
                    .map(|(name, _)| (*name).to_owned())
                    .filter(|name| {
                        patterns.iter().any(|pattern| {
                            glob::Pattern::new(pattern).is_ok_and(|p| p.matches(name))
                        })
                    })
                    .collect();
            }
            // No limit either way.
            "connecttimeout" => {
                for value in &mut values {
                    *value = if value == "0" { "none".to_owned() } else { value.clone() };
                }
            }
            // What is off is not printed by us, nor a command that may not be run.
            "knownhostscommand" | "revokedhostkeys" => values.retain(|v| v != "none"),
            "identityagent" => values.retain(|v| v != "SSH_AUTH_SOCK"),
            "localcommand" if all.get("permitlocalcommand").is_none_or(|v| v[0] == "no") => {
                values.clear();
            }
            // Debian's default, and ours.
            "ipqos" => {
                for value in &mut values {
                    *value = value.replace("lowdelay throughput", "af21 cs1");
                }
            }
            // Sockets stand in this list, too; ssh mixes both kinds in the order they came.
            "dynamicforward" => values.sort(),
            "loglevel" => {
                for value in &mut values {
                    *value = value.replace("SILENT", "QUIET");
                }
            }
            "escapechar" => {
                for value in &mut values {
                    *value = value.replace("\\^", "^");
                }
            }
            // Debian's ssh has a default of its own for batches.
            "serveraliveinterval" if all.get("batchmode").is_some_and(|v| v[0] == "yes") => {
                for value in &mut values {
                    *value = value.replace("300", "0");
                }
            }
            _ => {}
        }
        values
    }
}

fn by_keyword<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        values.entry(keyword.to_owned()).or_default().push(value.to_owned());
    }
    values
}

/// The environment of both programs.
const VARIABLES: &[(&str, &str)] = &[
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C"),
    ("LC_TIME", "C"),
    ("PATH", "/usr/bin:/bin"),
    ("FRUIT", "pear"),
    ("SHELL", "/bin/sh"),
];

/// Returns whether a keyword is not compared, as the page for users of OpenSSH says.
fn is_excepted(keyword: &str) -> bool {
    // Ours, and what is printed only there.
    const OURS: [&str; 5] = ["udp", "tsshd", "show", "forwardudp", "logincommand"];
    // Lists that are printed where they are set, and then as they were written.
    const LISTS: [&str; 6] = [
        "casignaturealgorithms",
        "ciphers",
        "hostkeyalgorithms",
        "kexalgorithms",
        "macs",
        "pubkeyacceptedalgorithms",
    ];
    OURS.iter().any(|start| keyword.starts_with(start))
        || LISTS.contains(&keyword)
        // Debian's default is another one.
        || keyword == "forwardx11trusted"
        // Read where it stands, and not kept.
        || keyword == "ignoreunknown"
        || !is_honoured(keyword)
}

/// Returns whether the page says yes to a keyword.
fn is_honoured(keyword: &str) -> bool {
    const PAGE: &str = include_str!("../../../../docs/openssh-compat.md");
    let mut rows = PAGE.lines().filter_map(|row| row.strip_prefix("| `")?.split_once("` | "));
    rows.any(|(name, rest)| name.eq_ignore_ascii_case(keyword) && rest.starts_with("yes |"))
}

/// Returns whether ssh prints paths or a command with what we print expanded.
fn has_tokens(keyword: &str, values: &[String]) -> bool {
    const EXPANDED: [&str; 6] = [
        "certificatefile",
        "identityfile",
        "identityagent",
        "knownhostscommand",
        "localcommand",
        "revokedhostkeys",
    ];
    EXPANDED.contains(&keyword) && values.iter().any(|value| value.contains(['%', '$', '~']))
}

/// Says so where there is nothing to compare with.
pub(crate) fn skipped() {
    // A test has no other voice than standard error.
    #[expect(clippy::print_stderr, reason = "tells why the test shows less")]
    {
        eprintln!("no ssh on this machine: not compared with OpenSSH");
    }
}
