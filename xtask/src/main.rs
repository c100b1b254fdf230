//! Development tasks.
use std::path::Path;
fn main() -> anyhow::Result<()> {
    let out = Path::new("crates/proto/src/generated");
    std::fs::create_dir_all(out)?;
    let files = ["agent/v1/agent.proto", "vpn/v1/auth.proto", "vpn/v1/config.proto", "vpn/v1/events.proto"];
    let fds = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().out_dir(out).build_transport(false).compile_fds(fds)?;
    Ok(())
}
