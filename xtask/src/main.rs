//! `cargo xtask …`: see `cargo xtask --help`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    for file in xtask::codegen::run(root)? {
        println!("wrote {}", file.display());
    }
    Ok(())
}
