//! Tokens (`%h`), variables (`${HOME}`) and what they stand for.
//!
//! Which keyword allows which is OpenSSH's choice (ssh_config(5), TOKENS and ENVIRONMENT
//! VARIABLES); an unknown token or an unset variable is an error, never an empty string, because
//! the result names files and commands.

use sha1::{Digest as _, Sha1};

use super::environment::Environment;

/// What tokens stand for.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    pub(super) environment: &'a Environment,
    /// `%h`
    pub(super) host: &'a str,
    /// `%n`
    pub(super) original_host: &'a str,
    /// `%p`
    pub(super) port: u16,
    /// `%r`
    pub(super) user: &'a str,
    /// `%j`
    pub(super) jump_host: Option<&'a str>,
    /// `%k`
    pub(super) host_key_alias: Option<&'a str>,
}

impl Tokens<'_> {
    /// Expands tokens, the common set: `%% %C %d %h %i %j %k %L %l %n %p %r %u`.
    ///
    /// # Errors
    /// What cannot be expanded.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        percent(text, |token| self.value(token))
    }

    /// Expands tokens of LocalCommand, which has `%T`, a tunnel device, as well; there is none.
    ///
    /// # Errors
    /// What cannot be expanded.
    pub(super) fn expand_for_local_command(&self, text: &str) -> Result<String, String> {
        percent(text, |token| match token {
            'T' => Some("NONE".to_owned()),
            token => self.value(token),
        })
    }

    /// Expands tokens and then variables.
    ///
    /// Variables are expanded in the text as written, not in what tokens stand for, as in OpenSSH.
    ///
    /// # Errors
    /// What cannot be expanded.
    pub(super) fn expand_with_variables(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(&self.expand(before)?);
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("environment variable \"{rest}\" missing closing '}}'"))?;
            if name.is_empty() {
                return Err("zero-length environment variable".to_owned());
            }
            let value = self.environment.variable(name);
            expanded.push_str(value.ok_or_else(|| format!("env var ${{{name}}} has no value"))?);
            rest = after;
        }
        expanded.push_str(&self.expand(rest)?);
        Ok(expanded)
    }

    /// Expands the common tokens of text that will be expanded again for those of `later`.
    ///
    /// # Errors
    /// What cannot be expanded.
    pub(super) fn expand_before(&self, later: &str, text: &str) -> Result<String, String> {
        percent(&text.replace("%%", "%%%%"), |token| match later.contains(token) {
            true => Some(format!("%{token}")),
            false => self.value(token).map(|value| value.replace('%', "%%")),
        })
    }

    fn value(&self, token: char) -> Option<String> {
        let local = &self.environment.host_name;
        Some(match token {
            'C' => self.connection_hash(),
            'd' => self.environment.home.to_string_lossy().into_owned(),
            'h' => self.host.to_owned(),
            'i' => self.environment.uid.to_string(),
            'j' => self.jump_host.unwrap_or_default().to_owned(),
            'k' => self.host_key_alias.unwrap_or(self.original_host).to_owned(),
            'L' => local.split('.').next().unwrap_or_default().to_owned(),
            'l' => local.clone(),
            'n' => self.original_host.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user.to_owned(),
            'u' => self.environment.user.clone(),
            _ => return None,
        })
    }

    /// `%C`: a name for this connection that is short and has no odd characters.
    fn connection_hash(&self) -> String {
        let mut hash = Sha1::new();
        hash.update(self.environment.host_name.as_bytes());
        hash.update(self.host.as_bytes());
        hash.update(self.port.to_string().as_bytes());
        hash.update(self.user.as_bytes());
        hex::encode(hash.finalize())
    }
}

/// Expands the tokens of HostName: `%%` and `%h`, the name as typed.
///
/// # Errors
/// What cannot be expanded.
pub(super) fn host_name(text: &str, typed: &str) -> Result<String, String> {
    percent(text, |token| (token == 'h').then(|| typed.to_owned()))
}

/// Expands tokens by a function that knows what they stand for; `%%` is `%`.
///
/// # Errors
/// What cannot be expanded.
pub(crate) fn percent(
    text: &str,
    value: impl Fn(char) -> Option<String>,
) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => expanded.push('%'),
            Some(token) => {
                expanded.push_str(&value(token).ok_or_else(|| format!("unknown key %{token}"))?);
            }
            None => return Err("a % at the end".to_owned()),
        }
    }
    Ok(expanded)
}
