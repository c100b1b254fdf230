//! Gives each target its committed corpus, without libFuzzer.

use std::fs;
use std::path::Path;

use ocserv_agent_fuzz::TARGETS;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let directory = corpus.join(name);
        let files = names(&directory);
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in &files {
            eprintln!("{name}/{file}");
            target(&fs::read(directory.join(file)).unwrap());
        }
    }
}

#[test]
fn every_corpus_and_every_program_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names(&root.join("corpus")), targets);
    assert_eq!(
        names(&root.join("targets")),
        targets.map(|name| format!("{name}.rs"))
    );
}
