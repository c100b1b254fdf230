//! A program that does nothing: the lower bound of exec to exit.

fn main() {}
