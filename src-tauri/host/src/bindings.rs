//! Writes the TypeScript types of the window, from the records of this crate.

use std::path::Path;

use ts_rs::TS;

use crate::docker::types as docker;
use crate::{model, settings};

macro_rules! export {
    ($dir:expr; $($type:ty),* $(,)?) => {{
        let mut names = std::collections::BTreeSet::new();
        $(
            <$type>::export_all_to($dir).unwrap();
            names.insert(<$type>::ident());
        )*
        names
    }};
}

#[test]
fn export_bindings() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/src/backend/bindings");
    std::fs::create_dir_all(&dir).unwrap();
    export!(&dir;
        model::VmStatus, settings::Preferences,
        docker::ContainerSummary, docker::ContainerInspect, docker::CreateContainer, docker::Created,
        docker::ImageSummary, docker::ImageInspect, docker::HistoryEntry, docker::ImageRemoved,
        docker::Volume, docker::Network, docker::Info, docker::Version, docker::DiskUsage, docker::WaitResult,
        docker::Event, docker::Progress, docker::LogChunk, docker::LogOptions,
    );
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().ok()?.strip_suffix(".ts").map(str::to_owned)
        })
        .filter(|name| name != "index")
        .collect();
    names.sort();
    let index: String =
        names.iter().map(|name| format!("export type {{ {name} }} from \"./{name}\";\n")).collect();
    std::fs::write(dir.join("index.ts"), index).unwrap();
    assert!(names.iter().any(|name| name == "VmState"), "{names:?}");
}
