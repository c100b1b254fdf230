//! The floor of a process's life: starts and ends.

fn main() {}
