//! `cargo xtask codegen`: the Rust of `crates/ocserv-agent-proto` from the files under `proto/`.
//!
//! Runs in this process (protox instead of `protoc`), so that the output depends on `Cargo.lock`
//! alone and `tidy` can compare it byte by byte.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The directory of the generated code, from the root of the workspace.
pub const OUT_DIR: &str = "crates/ocserv-agent-proto/src/generated";

/// The encoded `FileDescriptorSet`, in [`OUT_DIR`].
const DESCRIPTORS: &str = "descriptors.bin";

/// Generates into the checkout at `root`, removes outdated files, and returns the written ones.
pub fn run(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let out = root.join(OUT_DIR);
    fs::create_dir_all(&out).with_context(|| format!("could not create {}", out.display()))?;
    let before = files_in(&out)?;
    let written = generate(root, &out)?;
    for outdated in before.iter().filter(|file| !written.contains(file)) {
        fs::remove_file(outdated).with_context(|| format!("could not remove {}", outdated.display()))?;
    }
    Ok(written)
}

/// Generates from `root/proto` into the existing directory `out`: one file per package, and the
/// descriptors of all packages and their imports, without comments, as gRPC reflection serves them.
pub fn generate(root: &Path, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let include = root.join("proto");
    let sources = proto_files(&include)?;
    ensure!(!sources.is_empty(), "no .proto file below {}", include.display());

    let mut compiler = protox::Compiler::new([&include])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&sources)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(compiler.file_descriptor_set())
        .context("could not generate Rust from the descriptors")?;

    compiler.include_source_info(false);
    let path = out.join(DESCRIPTORS);
    fs::write(&path, compiler.encode_file_descriptor_set())
        .with_context(|| format!("could not write {}", path.display()))?;
    files_in(out)
}

/// Lists the .proto files below `dir`, sorted, so that the order in the descriptors does not depend
/// on the file system.
fn proto_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("could not read {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ext| ext == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Lists the entries of `dir`, sorted.
pub(crate) fn files_in(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("could not read {}", dir.display()))?;
    files.sort();
    Ok(files)
}
