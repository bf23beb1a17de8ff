//! `pull DIRECTORY REFERENCE`: pulls an image into a store of its own, saves, loads and removes it, and says how long each took.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use image::{InUse, LoadEvent, PullEvent, PullRequest, RegistryConfig, Store, StoreConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), Some(reference)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pull DIRECTORY REFERENCE".into());
    };
    let root = PathBuf::from(directory);
    std::fs::create_dir_all(&root)?;
    let database = Arc::new(redb::Database::create(root.join("db"))?);
    let store = Store::open(StoreConfig::new(root.join("images"), database))?;
    let reference = reference.to_str().ok_or("the reference is not UTF-8")?;

    let begun = Instant::now();
    let mut events = store.pull(PullRequest {
        reference: reference.parse()?,
        platform: None,
        auth: None,
        registries: RegistryConfig::default(),
    });
    while let Some(event) = events.recv().await {
        match event {
            PullEvent::Error(error) => return Err(error.sentence().into()),
            PullEvent::Status { status, .. } => println!("{status}"),
            _ => {}
        }
    }
    println!("pull {:.2?}", begun.elapsed());

    let begun = Instant::now();
    let mut pieces = store.save(&[reference.to_owned()])?;
    let mut archive = Vec::new();
    while let Some(piece) = pieces.recv().await {
        archive.extend_from_slice(&piece?);
    }
    println!("save {:.2?}, {} bytes", begun.elapsed(), archive.len());
    remove(&store, reference)?;

    let begun = Instant::now();
    let mut events = store.load(std::io::Cursor::new(archive), None);
    while let Some(event) = events.recv().await {
        if let LoadEvent::Error(error) = event {
            return Err(error.sentence().into());
        }
    }
    println!("load {:.2?}", begun.elapsed());
    remove(&store, reference)
}

fn remove(store: &Store, reference: &str) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    store.remove(reference, false, false, &|_| InUse::No)?;
    println!("remove {:.2?}", begun.elapsed());
    Ok(())
}
