//! Replays the committed corpora: what fuzzing once found stays fixed everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use tssh_fuzzing::TARGETS;

#[test]
fn every_input_of_every_corpus_is_taken_without_a_panic() {
    for (name, target) in TARGETS {
        let inputs = files(&fuzz().join("corpus").join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for path in inputs {
            let input = fs::read(&path).expect("an input can be read");
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                panic!("{name} does not survive {}", path.display());
            }
        }
    }
}

#[test]
fn every_target_has_its_program() {
    let programs: Vec<_> = files(&fuzz().join("fuzz_targets"))
        .iter()
        .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(programs, names);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest is there");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Returns the files of a directory, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}
