//! `cargo xtask tidy`: the rules of the house that a compiler does not check.
//!
//! Each rule is a function from the tree to a list of [`Finding`]s, with the
//! file and line to look at. The rules run as tests of this crate as well, so
//! that `cargo test` is enough to notice a breach.

mod imports;
mod purity;
mod source;
mod text;

use std::fmt;

use anyhow::bail;

use crate::shell;
use source::Tree;

/// A breach of a rule, at a place.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Path from the root of the repository.
    path: String,
    /// Line, counted from 1.
    line: usize,
    /// The rule, and what to do instead.
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Checks the tree.
///
/// # Errors
/// When a rule is broken (each breach is printed), or the tree cannot be read.
pub(crate) fn run() -> anyhow::Result<()> {
    let findings = check()?;
    for finding in &findings {
        shell::say(&finding.to_string());
    }
    if !findings.is_empty() {
        bail!("{} breaches of house rules", findings.len());
    }
    Ok(())
}

fn check() -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(shell::root())?;
    let packages = imports::packages()?;
    let mut findings = text::check(&tree);
    findings.extend(purity::check(&tree));
    findings.extend(imports::check(&tree, &packages));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_keeps_the_rules_of_the_house() {
        let findings = check().expect("the tree can be read");
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
