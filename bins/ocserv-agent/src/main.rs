//! ocserv-agent
fn main() {}
