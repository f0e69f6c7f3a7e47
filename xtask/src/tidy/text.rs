//! Rules about the text of single files: headers, `unsafe`, foreign paths, registry.

use super::Finding;
use super::source::{File, Tree, has_word};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        findings.extend(header(file));
        findings.extend(unsafe_code(file));
        findings.extend(platforms(file));
    }
    for root in FORBIDDING {
        findings.extend(forbids_unsafe(tree, root));
    }
    for file in &tree.files {
        findings.extend(foreign_paths(file));
    }
    findings.extend(registry(tree));
    for (mark, document, heading) in CITED {
        findings.extend(citations(tree, mark, document, heading));
    }
    findings
}

/// Every Rust file opens by saying what it is.
fn header(file: &File) -> Option<Finding> {
    // libFuzzer's targets may have `#![no_main]` above it.
    let first = file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    let opens = first.is_some_and(|line| line.starts_with("//! ") && line.len() > 12);
    (!opens).then(|| {
        finding(file, 1, "a module opens with `//!`: what it is, what it is not, its invariants")
    })
}

/// `unsafe` is for the folders called `sys`.
fn unsafe_code(file: &File) -> Vec<Finding> {
    let may = file.path.split('/').any(|part| part == "sys") || file.path.ends_with("/sys.rs");
    if may {
        return Vec::new();
    }
    let lines = file.code().filter(|(_, code)| has_word(code, "unsafe") && !code.contains('"'));
    lines.map(|(line, _)| finding(file, line, "unsafe code belongs in sys/")).collect()
}

/// What differs between systems is for the folders called `sys` (DESIGN D12).
fn platforms(file: &File) -> Vec<Finding> {
    let bound = PROGRAMS.iter().any(|start| file.path.starts_with(start));
    if !bound || file.path.split('/').any(|part| part == "sys") {
        return Vec::new();
    }
    let is_about_systems = |code: &str| {
        // Tests may need a system's own ways.
        code.contains("cfg")
            && !has_word(code, "test")
            && ["unix", "windows", "target_os"].iter().any(|w| has_word(code, w))
    };
    let lines = file.code().filter(|(_, code)| is_about_systems(code));
    lines.map(|(line, _)| finding(file, line, "cfg on the platform belongs in sys/")).collect()
}

/// A crate that needs no unsafe code says so to the compiler.
fn forbids_unsafe(tree: &Tree, root: &str) -> Option<Finding> {
    let rule = "this crate says #![forbid(unsafe_code)]";
    let Some(file) = tree.file(root) else {
        return Some(Finding { path: root.into(), line: 1, rule: "this file is missing".into() });
    };
    let says = file.text.lines().any(|line| line == "#![forbid(unsafe_code)]");
    (!says).then(|| finding(file, 1, rule))
}

/// No path of a developer's own machine.
fn foreign_paths(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| FOREIGN.iter().any(|path| line.contains(path)))
        .map(|(index, _)| finding(file, index + 1, "a path that exists on one machine only"))
        .collect()
}

/// Every extension the code knows is in the registry.
fn registry(tree: &Tree) -> Vec<Finding> {
    let (Some(code), Some(registry)) =
        (tree.file("crates/proto/src/ext.rs"), tree.file("docs/extensions.md"))
    else {
        return Vec::new();
    };
    // Lines such as `Self::Early => "early",`.
    let names = code.code().filter_map(|(line, text)| {
        let (variant, name) = text.split_once("=> \"")?;
        variant.trim().starts_with("Self::").then_some((line, name.split('"').next()?))
    });
    names
        .filter(|(_, name)| !registry.text.contains(&format!("| `{name}` |")))
        .map(|(line, name)| finding(code, line, &format!("`{name}` is not in docs/extensions.md")))
        .collect()
}

/// What the code cites by number can be found in the repository.
fn citations(tree: &Tree, mark: &str, document: &str, heading: &str) -> Vec<Finding> {
    let Some(text) = tree.file(document).map(|file| &file.text) else { return Vec::new() };
    let is_there = |number: &str| {
        let start = format!("{heading}{number}");
        text.lines().any(|line| {
            let rest = line.trim_start_matches('#').trim_start().strip_prefix(&start);
            rest.is_some_and(|rest| rest.starts_with([' ', '.', ':']))
        })
    };
    let mut findings = Vec::new();
    for file in tree.rust() {
        for (index, line) in file.text.lines().enumerate() {
            for cited in line.split(mark).skip(1) {
                let end = cited.find(|c: char| !c.is_ascii_digit() && c != '.');
                let number = cited.get(..end.unwrap_or(cited.len())).unwrap_or_default();
                let number = number.trim_end_matches('.');
                if !number.is_empty() && !is_there(number) {
                    let rule = format!("{mark}{number} is not in {document}");
                    findings.push(finding(file, index + 1, &rule));
                }
            }
        }
    }
    findings
}

fn finding(file: &File, line: usize, rule: &str) -> Finding {
    Finding { path: file.path.clone(), line, rule: rule.to_owned() }
}

/// Code that has a `sys/` for what differs between systems; the layers have `driver/`.
const PROGRAMS: [&str; 4] =
    ["crates/client/src/", "crates/host/src/", "crates/server/src/", "crates/tty/src/"];

/// Roots of the crates without unsafe code.
const FORBIDDING: [&str; 8] = [
    "crates/proto/src/lib.rs",
    "crates/proxy/src/lib.rs",
    "crates/transport/src/lib.rs",
    "crates/testkit/src/lib.rs",
    "crates/demo/src/main.rs",
    "crates/devsshd/src/lib.rs",
    "crates/fuzzing/src/lib.rs",
    "xtask/src/main.rs",
];

/// How the code cites a document, the document, and how its entries begin there.
const CITED: [(&str, &str, &str); 2] = [
    (concat!("PROTOCOL", " §"), "docs/protocol.md", ""),
    (concat!("DESIGN", " D"), "docs/design.md", "* **D"),
];

/// Starts of paths that say more about a machine than about the program.
///
/// In two pieces, or this file would be a breach of its own rule.
const FOREIGN: [&str; 3] = [concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/tmp", "/t-")];

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into(), test: false }
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert!(header(&file("a.rs", "use std::fs;\n")).is_some());
        assert!(header(&file("a.rs", "//! Says what it is.\n")).is_none());
        assert!(header(&file("a.rs", "#![no_main]\n//! Says what it is.\n")).is_none());
    }

    #[test]
    fn unsafe_code_is_found_outside_sys_only() {
        let text = "//! A file.\nfn f() { unsafe { g() } }\n";
        assert_eq!(unsafe_code(&file("crates/client/src/a.rs", text)).len(), 1);
        assert_eq!(unsafe_code(&file("crates/client/src/sys/a.rs", text)).len(), 0);
    }

    #[test]
    fn a_difference_between_systems_is_found_outside_sys_only() {
        let text = "//! A file.\n#[cfg(windows)]\nfn f() {}\n";
        assert_eq!(platforms(&file("crates/client/src/a.rs", text)).len(), 1);
        assert_eq!(platforms(&file("crates/client/src/sys/a.rs", text)).len(), 0);
        assert_eq!(platforms(&file("crates/proxy/src/driver/a.rs", text)).len(), 0);
    }

    #[test]
    fn a_citation_that_leads_nowhere_is_found() {
        let cite = CITED[0].0;
        let code = format!("//! See {cite}2.3 and {cite}9.\n");
        let files = vec![file("a.rs", &code), file("docs/protocol.md", "### 2.3 UDP\n## 19. No\n")];
        let (mark, document, heading) = CITED[0];
        let found = citations(&Tree { files }, mark, document, heading);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].rule.contains('9'), "{found:?}");
    }

    #[test]
    fn an_extension_that_is_not_registered_is_found() {
        let code = file("crates/proto/src/ext.rs", "//! x\n            Self::New => \"new\",\n");
        let docs = file("docs/extensions.md", "| `early` | ... |\n");
        let found = registry(&Tree { files: vec![code, docs] });
        assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), [2]);
    }
}
