//! Checks the configuration and generates what Tauri needs of it.

fn main() {
    tauri_build::build();
}
