//! Packs the hello program into its image: `pack-hello PROGRAM ARCHITECTURE ARCHIVE`.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, bail};
use hello_image::{Entry, Image};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [program, architecture, archive] = arguments.as_slice() else {
        bail!("usage: pack-hello PROGRAM ARCHITECTURE ARCHIVE");
    };
    let program = fs::read(program).with_context(|| format!("cannot read `{program}`"))?;
    let image = Image::new()
        .architecture(architecture)
        .config("Cmd", json!(["/hello"]))
        .config("WorkingDir", json!("/"))
        .layer(&[Entry::File("hello", 0o755, &program)])?;
    let archive = PathBuf::from(archive);
    let bytes = image.archive(&["sampan/hello:latest"])?;
    fs::write(&archive, bytes).with_context(|| format!("cannot write `{}`", archive.display()))
}
