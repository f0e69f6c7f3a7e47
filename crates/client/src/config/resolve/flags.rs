//! The flags of the command line, applied in the order given.

use super::{Draft, known, quoted, unfit_for_user};
use crate::cli::Flag;
use crate::config::error::{ConfigError, system_text};
use crate::config::jump::Jump;
use crate::config::options::{self, Options, Origin};
use crate::config::settings::{AddressFamily, LogLevel};

impl Draft<'_> {
    /// Applies the flags in the order given.
    pub(super) fn flags(&mut self) -> Result<(), ConfigError> {
        let mut verbose = false;
        for flag in &self.line.flags {
            match flag {
                Flag::Option(text) => self.option(text)?,
                Flag::Identity(path) => self.identity(path.to_string_lossy().as_ref())?,
                Flag::Family(AddressFamily::Inet6) => self.replace("addressfamily", "inet6"),
                Flag::Family(_) => self.replace("addressfamily", "inet"),
                Flag::Terminal => {
                    let asked = self.options.word("requesttty").is_some_and(options::is_yes);
                    self.replace("requesttty", if asked { "force" } else { "yes" });
                }
                Flag::NoTerminal => self.replace("requesttty", "no"),
                Flag::Verbose => {
                    let level = self.current_level();
                    self.level = Some(match verbose {
                        false => LogLevel::Debug1,
                        true => level.louder(),
                    });
                    verbose = true;
                }
                Flag::Quiet => self.level = Some(LogLevel::Quiet),
                Flag::NoSession => {
                    self.session("none", "Cannot specify -N with -s/SessionType")?;
                    self.replace("requesttty", "no");
                }
                Flag::Subsystem => {
                    self.session("subsystem", "Cannot specify -s with -N/SessionType")?;
                }
                Flag::Background => {
                    self.replace("forkafterauthentication", "yes");
                    self.replace("stdinnull", "yes");
                }
                Flag::NullInput => self.replace("stdinnull", "yes"),
                Flag::Jump(hosts) => self.jump(hosts)?,
                Flag::Forward(slot, spec) => self.options.add_forward(known(slot), spec),
                Flag::Stdio(_) => {
                    self.replace("requesttty", "no");
                    self.replace("sessiontype", "none");
                }
                Flag::Compression => self.replace("compression", "yes"),
                Flag::Master => {
                    let lent = self.options.word("controlmaster").is_some_and(options::is_yes);
                    self.replace("controlmaster", if lent { "ask" } else { "yes" });
                }
                Flag::Replace(slot, value) => {
                    let keyword = known(slot);
                    // Checked as an option, then put in place.
                    Options::default()
                        .set(keyword, &quoted(value), &Origin::CommandLine, true)
                        .map_err(|problem| ConfigError::BadOption {
                            problem: format!("{} '{value}': {problem}", keyword.name),
                        })?;
                    self.options.replace(keyword, value.clone());
                }
            }
        }
        match self.options.word("user") {
            Some(user) if unfit_for_user(user) => Err(ConfigError::BadOption {
                problem: "remote username contains invalid characters".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn option(&mut self, text: &str) -> Result<(), ConfigError> {
        let line = self.line;
        self.pass(&line.host, false).command_line_option(text)
    }

    /// Takes the hosts of `-J`.
    fn jump(&mut self, hosts: &str) -> Result<(), ConfigError> {
        match self.options.get("proxy").map(|setting| setting.keyword.name) {
            Some("proxyjump") => Err(ConfigError::Conflict(
                "Only a single -J option is permitted (use commas to separate multiple jump hops)",
            )),
            Some(_) => Err(ConfigError::Conflict("Cannot specify -J with ProxyCommand")),
            None if Jump::parse(hosts).is_err() => {
                Err(ConfigError::Conflict("Invalid -J argument"))
            }
            None => {
                self.replace("proxyjump", hosts);
                Ok(())
            }
        }
    }

    pub(super) fn replace(&mut self, slot: &str, value: &str) {
        self.options.replace(known(slot), value.to_owned());
    }

    fn session(&mut self, kind: &str, conflict: &'static str) -> Result<(), ConfigError> {
        match self.options.word("sessiontype") {
            Some(other) if !other.eq_ignore_ascii_case(kind) => {
                Err(ConfigError::Conflict(conflict))
            }
            _ => {
                self.replace("sessiontype", kind);
                Ok(())
            }
        }
    }

    /// Takes the path of `-i`; one that is not there is passed over with a warning, as in ssh.
    fn identity(&mut self, path: &str) -> Result<(), ConfigError> {
        let expanded = self.environment.expand_tilde(path).unwrap_or(path.to_owned());
        if let Err(error) = std::fs::metadata(&expanded) {
            self.warnings
                .push(format!("Identity file {expanded} not accessible: {}.", system_text(&error)));
            return Ok(());
        }
        self.options
            .set(known("identityfile"), &quoted(&expanded), &Origin::CommandLine, true)
            .map_err(|problem| ConfigError::BadOption { problem })
    }
}
