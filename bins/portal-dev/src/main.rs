//! portal-dev
fn main() {}
