//! The keywords whose values are paths: identity files, the agent's socket, known_hosts files.
//!
//! Names are expanded, nothing is opened. Which tokens and variables each keyword allows is
//! OpenSSH's choice (ssh_config(5)).

use std::path::PathBuf;

use super::error::ConfigError;
use super::expand::Tokens;
use super::options::{Options, is_yes};
use super::settings::{ForwardAgent, IdentityAgent, IdentityFile};

/// The keywords whose values are paths.
pub(super) struct Paths<'a> {
    pub(super) tokens: &'a Tokens<'a>,
    pub(super) options: &'a Options,
}

impl Paths<'_> {
    pub(super) fn expand(&self, keyword: &'static str, path: &str) -> Result<String, ConfigError> {
        let failed = |problem| ConfigError::Expansion { keyword, problem };
        let path = self
            .tokens
            .environment
            .expand_tilde(path)
            .ok_or_else(|| failed(format!("no such user: {path}")))?;
        self.tokens.expand_with_variables(&path).map_err(failed)
    }

    pub(super) fn identity_files(&self) -> Result<Vec<IdentityFile>, ConfigError> {
        let Some(setting) = self.options.get("identityfile") else {
            let directory = self.tokens.environment.home.join(".ssh");
            let files = DEFAULT_IDENTITIES
                .iter()
                .map(|name| IdentityFile { path: directory.join(name), explicit: false });
            return Ok(files.collect());
        };
        let mut files = Vec::new();
        for value in &setting.values {
            if value.eq_ignore_ascii_case("none") {
                continue;
            }
            let file =
                IdentityFile { path: self.expand("IdentityFile", value)?.into(), explicit: true };
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(files)
    }

    pub(super) fn certificate_files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let named = self.options.words("certificatefile").iter();
        named
            .filter(|path| !path.eq_ignore_ascii_case("none"))
            .map(|path| Ok(self.expand("CertificateFile", path)?.into()))
            .collect()
    }

    pub(super) fn forward_agent(&self) -> Result<ForwardAgent, ConfigError> {
        let Some(word) = self.options.word("forwardagent") else { return Ok(ForwardAgent::No) };
        if is_yes(word) {
            return Ok(ForwardAgent::Yes);
        }
        if word.eq_ignore_ascii_case("no") || word.eq_ignore_ascii_case("false") {
            return Ok(ForwardAgent::No);
        }
        match word.strip_prefix('$') {
            Some(name) if !name.starts_with('{') => Ok(ForwardAgent::Variable(name.to_owned())),
            _ => Ok(ForwardAgent::Path(self.expand("ForwardAgent", word)?.into())),
        }
    }

    pub(super) fn identity_agent(&self) -> Result<IdentityAgent, ConfigError> {
        let Some(word) = self.options.word("identityagent") else {
            return Ok(IdentityAgent::Environment);
        };
        if word.eq_ignore_ascii_case("none") {
            return Ok(IdentityAgent::None);
        }
        if word == "SSH_AUTH_SOCK" {
            return Ok(IdentityAgent::Environment);
        }
        // The older way to name a variable, `$NAME`; an unset one means no agent.
        if let Some(name) = word.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            return Ok(match self.tokens.environment.variable(name) {
                Some(path) => IdentityAgent::Path(path.into()),
                None => IdentityAgent::None,
            });
        }
        let path = self.expand("IdentityAgent", word)?;
        Ok(IdentityAgent::Path(path.into()))
    }

    pub(super) fn user_known_hosts_files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let usual = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"].map(str::to_owned);
        let files = match self.options.words("userknownhostsfile") {
            [] => &usual[..],
            [none] if none.eq_ignore_ascii_case("none") => &[],
            files => files,
        };
        let expanded = files.iter().map(|path| Ok(self.expand("UserKnownHostsFile", path)?.into()));
        expanded.collect()
    }

    pub(super) fn global_known_hosts_files(&self) -> Vec<PathBuf> {
        match self.options.words("globalknownhostsfile") {
            [] => {
                let directory = self.tokens.environment.system_config.parent();
                let directory = directory.map(PathBuf::from).unwrap_or_default();
                vec![directory.join("ssh_known_hosts"), directory.join("ssh_known_hosts2")]
            }
            [none] if none.eq_ignore_ascii_case("none") => Vec::new(),
            files => files.iter().map(PathBuf::from).collect(),
        }
    }
}

/// The identity files of OpenSSH 9.2, in its order, but for DSA and XMSS, which are not supported.
const DEFAULT_IDENTITIES: [&str; 5] =
    ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];
