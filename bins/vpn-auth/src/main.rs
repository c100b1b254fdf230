//! vpn-auth
fn main() {}
