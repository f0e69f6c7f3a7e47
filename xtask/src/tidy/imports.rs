//! Who may import whom: our crates among themselves, and the heavy crates.
//!
//! The tables are the design; a new arrow is a decision and wants an ADR
//! (`docs/decisions/`). Manifests are compared through `cargo metadata`; where
//! a dependency is for one folder only, the sources are searched as well.

use anyhow::Context;
use serde_json::Value;

use super::Finding;
use super::source::{Tree, has_word};
use crate::shell;

/// A workspace member and what its manifest asks for.
pub(super) struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
    optional: bool,
}

/// Reads the workspace's manifests.
pub(super) fn packages() -> anyhow::Result<Vec<Package>> {
    let metadata = shell::output(shell::cargo(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let root = shell::root().to_string_lossy();
    let list = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    Ok(list.iter().map(|package| Package::read(package, &root)).collect())
}

impl Package {
    fn read(package: &Value, root: &str) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let manifest = text(&package["manifest_path"]).replacen(&format!("{root}/"), "", 1);
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice);
        let dependencies = dependencies.unwrap_or_default().iter().map(|dependency| Dependency {
            name: text(&dependency["name"]),
            kind: dependency["kind"].as_str().map(ToOwned::to_owned),
            optional: dependency["optional"].as_bool().unwrap_or(false),
        });
        Self { name: text(&package["name"]), manifest, dependencies: dependencies.collect() }
    }
}

pub(super) fn check(tree: &Tree, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        findings.extend(ours(tree, package, packages));
        findings.extend(heavy(tree, package));
    }
    for rule in HEAVY {
        findings.extend(uses(tree, rule));
    }
    findings
}

/// Checks a package's dependencies on other packages of ours.
fn ours(tree: &Tree, package: &Package, packages: &[Package]) -> Vec<Finding> {
    let Some((_, may)) = OURS.iter().find(|(name, _)| *name == package.name) else {
        let rule = "this package is not in the import table of xtask/src/tidy/imports.rs";
        return vec![at(tree, package, "[package]", rule)];
    };
    let members =
        |dependency: &&Dependency| packages.iter().any(|member| member.name == dependency.name);
    let breaches = package.dependencies.iter().filter(members).filter(|dependency| {
        let for_tests = dependency.kind.is_some() && FOR_TESTS.contains(&&*dependency.name);
        !for_tests && !may.contains(&&*dependency.name)
    });
    breaches
        .map(|dependency| {
            let rule = format!("{} may not use {}", package.name, dependency.name);
            at(tree, package, &dependency.name, &rule)
        })
        .collect()
}

/// Checks a package's dependencies on heavy crates.
fn heavy(tree: &Tree, package: &Package) -> Vec<Finding> {
    let dir = package.manifest.trim_end_matches("Cargo.toml");
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
    let mut findings = Vec::new();
    for dependency in normal {
        let Some(rule) = HEAVY.iter().find(|rule| rule.name == dependency.name) else { continue };
        let place = rule.places.iter().find(|place| place.starts_with(dir));
        let complaint = match place {
            None => format!("{} may not use {}", package.name, rule.name),
            // The machines must be buildable without it.
            Some(place) if place.contains("/driver/") && !dependency.optional => {
                format!("{} is for the driver: make it optional", rule.name)
            }
            Some(_) => continue,
        };
        findings.push(at(tree, package, rule.name, &complaint));
    }
    findings
}

/// Checks that a heavy crate is named in its places only.
fn uses(tree: &Tree, rule: &Heavy) -> Vec<Finding> {
    let ident = rule.name.replace('-', "_");
    let mut findings = Vec::new();
    let elsewhere = |path: &str| !rule.places.iter().any(|place| path.starts_with(place));
    // Tests of any rung may use what helps them.
    let sources = tree.rust().filter(|file| file.path.contains("/src/") && elsewhere(&file.path));
    for file in sources {
        for (line, code) in file.code() {
            let path =
                code.contains(&format!("{ident}::")) || code.contains(&format!("use {ident}"));
            if path && has_word(code, &ident) && !code.contains(&format!("::{ident}")) {
                let rule = format!("{} is for {} only", rule.name, rule.places.join(", "));
                findings.push(Finding { path: file.path.clone(), line, rule });
            }
        }
    }
    findings
}

/// Returns a finding at the line of the manifest that starts with `what` or names it.
fn at(tree: &Tree, package: &Package, what: &str, rule: &str) -> Finding {
    let short = what.trim_start_matches("tssh-");
    let text = tree.file(&package.manifest).map_or("", |file| &file.text);
    let line = text.lines().position(|line| line.starts_with(what) || line.starts_with(short));
    Finding {
        path: package.manifest.clone(),
        line: line.map_or(1, |index| index + 1),
        rule: rule.to_owned(),
    }
}

/// A crate that has its place.
struct Heavy {
    name: &'static str,
    /// Folders or files whose code may name it.
    places: &'static [&'static str],
}

const fn heavy_crate(name: &'static str, places: &'static [&'static str]) -> Heavy {
    Heavy { name, places }
}

/// Which of our packages each of ours may use.
const OURS: &[(&str, &[&str])] = &[
    ("tssh-proto", &[]),
    ("tssh-testkit", &[]),
    ("tssh-tty", &[]),
    ("tssh-host", &[]),
    ("tssh-devsshd", &[]),
    ("tssh-netlab", &["tssh-testkit"]),
    ("tssh-proxy", &["tssh-proto"]),
    ("tssh-transport", &["tssh-proto", "tssh-proxy"]),
    ("tssh", &["tssh-proto", "tssh-proxy", "tssh-transport", "tssh-tty", "tssh-host"]),
    ("tsshd", &["tssh-proto", "tssh-proxy", "tssh-transport", "tssh-tty", "tssh-host"]),
    ("tssh-fuzzing", &["tssh-proto", "tssh-proxy", "tssh-transport", "tssh", "tsshd"]),
    ("tssh-demo", &["tssh-devsshd"]),
    ("xtask", &["tssh-proto", "tssh-netlab"]),
    ("e2e", &["tssh-proto", "tssh-netlab"]),
    ("examples", &["tssh-proto", "tssh-proxy", "tssh-transport", "tssh-testkit"]),
];

/// What any package may use in its tests.
const FOR_TESTS: [&str; 2] = ["tssh-testkit", "tssh-devsshd"];

/// Where the crates live that shape a design or a build.
const HEAVY: &[Heavy] = &[
    heavy_crate(
        "russh",
        &["crates/client/src/login/", "crates/client/src/remote/login", "crates/devsshd/"],
    ),
    heavy_crate("quinn", &["crates/transport/src/driver/quic/"]),
    heavy_crate("rustls", &["crates/transport/src/driver/quic/"]),
    heavy_crate("rcgen", &["crates/transport/src/driver/quic/"]),
    heavy_crate("quinn-udp", &["crates/proxy/src/driver/"]),
    heavy_crate("socket2", &["crates/proxy/src/driver/"]),
    heavy_crate("aes-gcm", &["crates/proxy/src/seal.rs", "crates/transport/src/crypt/"]),
    heavy_crate("clap", &["crates/client/src/cli", "crates/server/src/cli"]),
    heavy_crate("alacritty_terminal", &["crates/client/src/terminal/screen"]),
    heavy_crate("crossterm", &["crates/client/src/terminal/"]),
    heavy_crate(
        "pty-process",
        &["crates/server/src/sys/", "crates/devsshd/", "tests/", "xtask/src/bench/"],
    ),
    heavy_crate(
        "anyhow",
        &[
            "crates/client/src/main.rs",
            "crates/client/src/app.rs",
            "crates/client/src/report.rs",
            "crates/server/src/main.rs",
            "crates/server/src/bootstrap.rs",
            "crates/demo/",
            "xtask/",
            "tests/",
            "examples/",
        ],
    ),
    heavy_crate(
        "tokio",
        &[
            "crates/proxy/src/driver/",
            "crates/transport/src/driver/",
            "crates/client/",
            "crates/server/",
            "crates/host/",
            "crates/demo/",
            "crates/devsshd/",
            "tests/",
            "examples/",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::source::File;
    use super::*;

    fn package(name: &str, dependency: &str, optional: bool) -> Package {
        let dependency = Dependency { name: dependency.into(), kind: None, optional };
        let short = name.trim_start_matches("tssh-");
        let manifest = format!("crates/{short}/Cargo.toml");
        Package { name: name.into(), manifest, dependencies: vec![dependency] }
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found_where_it_is_drawn() {
        let text = "[dependencies]\nproxy.workspace = true\n".to_owned();
        let manifest = File { path: "crates/proto/Cargo.toml".into(), text, test: false };
        let packages = [
            package("tssh-proto", "tssh-proxy", false),
            package("tssh-proxy", "tssh-proto", false),
        ];
        let found = check(&Tree { files: vec![manifest] }, &packages);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].to_string(),
            "crates/proto/Cargo.toml:2: tssh-proto may not use tssh-proxy"
        );
    }

    #[test]
    fn a_heavy_crate_of_the_driver_must_be_optional() {
        let tree = Tree { files: Vec::new() };
        assert_eq!(heavy(&tree, &package("tssh-proxy", "tokio", false)).len(), 1);
        assert_eq!(heavy(&tree, &package("tssh-proxy", "tokio", true)).len(), 0);
        assert_eq!(heavy(&tree, &package("tssh-proto", "tokio", true)).len(), 1);
    }

    #[test]
    fn a_heavy_crate_is_found_outside_its_folder() {
        let text = "//! x\nuse russh::client;\n";
        let file = |path: &str| File { path: path.into(), text: text.into(), test: false };
        let tree = Tree {
            files: ["crates/client/src/login/mod.rs", "crates/client/src/app.rs"].map(file).into(),
        };
        let found = check(&tree, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&*found[0].path, found[0].line), ("crates/client/src/app.rs", 2));
    }
}
