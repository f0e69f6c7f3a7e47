//! The tree as tidy sees it: the files git knows, and their code without comments.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::shell;

/// The text files of the repository.
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

/// One file.
pub(super) struct File {
    /// Path from the root of the repository, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// Whether this is a module of tests, declared so by its parent.
    pub(super) test: bool,
}

impl Tree {
    /// Reads every text file that is tracked, or new and not ignored.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let names = shell::output(shell::command(&words)).context("tidy needs git")?;
        let mut files = Vec::new();
        for path in names.split('\0').filter(|name| !name.is_empty()) {
            // A tracked file may be deleted, and a golden vector is not text.
            if let Ok(text) = fs::read_to_string(root.join(path)) {
                files.push(File { path: path.to_owned(), text, test: false });
            }
        }
        let mut tree = Self { files };
        tree.mark_tests();
        Ok(tree)
    }

    /// Marks the files that their parents declare under `#[cfg(test)]`.
    fn mark_tests(&mut self) {
        let declared: Vec<String> = self.rust().flat_map(File::test_modules).collect();
        for file in &mut self.files {
            file.test = declared.contains(&file.path);
        }
    }

    /// Returns the Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// Returns a file by its path.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl File {
    /// Returns the numbered lines of code: no comments, no unit tests.
    ///
    /// Line by line and without a parser: what follows `//` is a comment even
    /// inside a string, which can hide a breach but never invents one. The
    /// unit tests are the `mod tests` at the bottom.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = if self.test { "" } else { &*self.text };
        let lines = text.lines().enumerate();
        lines
            .take_while(|(_, line)| !line.starts_with("mod tests"))
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
            .filter(|(_, code)| !code.trim().is_empty())
    }

    /// Returns the paths of the modules that this file declares for tests only.
    fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let root = ["/mod", "/lib", "/main"].iter().find_map(|name| stem.strip_suffix(name));
        let dir = root.unwrap_or(stem);
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let module = |pair: &[&str]| {
            let [gate, declaration] = pair else { return None };
            let name = declaration.strip_prefix("mod ")?.strip_suffix(';')?;
            (*gate == "#[cfg(test)]").then(|| format!("{dir}/{name}.rs"))
        };
        lines.windows(2).filter_map(module).collect()
    }
}

/// Returns whether `code` contains `word` with no other word character beside it.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_unit_tests_are_not_code() {
        let text = "//! tokio\nuse a; // tokio\n#[cfg(test)]\nmod tests {\n use tokio;\n}\n";
        let file = File { path: String::new(), text: text.into(), test: false };
        let code: Vec<_> = file.code().collect();
        assert_eq!(code, [(2, "use a; "), (3, "#[cfg(test)]")]);
    }

    #[test]
    fn a_module_declared_for_tests_is_not_code() {
        let file =
            |path: &str, text: &str| File { path: path.into(), text: text.into(), test: false };
        let parent = file("a/src/client.rs", "//! x\n#[cfg(test)]\nmod table;\nmod search;\n");
        let children = ["a/src/client/table.rs", "a/src/client/search.rs"];
        let mut tree = Tree { files: vec![parent] };
        tree.files.extend(children.map(|path| file(path, "use tokio;\n")));
        tree.mark_tests();
        let code: Vec<_> = tree.files.iter().map(|file| file.code().count()).collect();
        assert_eq!(code, [3, 0, 1]);
    }

    #[test]
    fn a_word_is_found_only_as_a_whole() {
        assert!(has_word("use tokio::net;", "tokio"));
        assert!(!has_word("use tokio_util::net;", "tokio"));
        assert!(!has_word("use my_tokio;", "tokio"));
    }
}
