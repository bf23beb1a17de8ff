//! src-tauri.

fn main() {}
