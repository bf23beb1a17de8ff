//! Lets the linker find stubs of Apple's frameworks where there is no Mac with the real ones (`check-macos.sh`).

fn main() {
    println!("cargo::rerun-if-changed=stubs");
    let variable = |name| std::env::var_os(name).unwrap_or_default().to_string_lossy().into_owned();
    if variable("CARGO_CFG_TARGET_OS") == "macos" && !variable("HOST").contains("apple") {
        let stubs = concat!(env!("CARGO_MANIFEST_DIR"), "/stubs");
        println!("cargo::rustc-link-search=native={stubs}");
        println!("cargo::rustc-link-search=framework={stubs}");
    }
}
