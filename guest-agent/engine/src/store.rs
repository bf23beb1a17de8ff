//! Records at rest: one embedded transactional store, with a journal before it.
//!
//! A flush to disk takes longer than a whole container's life, so nobody waits for one. A change is appended
//! to a journal file first, which survives the engine's death at any moment, then handed to a thread that
//! writes all that has come meanwhile as one durable transaction. After a power loss the store is some
//! moment of the last few milliseconds before it, whole.
//!
//! Each change has a number; the store keeps the last one it has, so that a journal left behind is replayed
//! exactly from there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

/// `kind/key` → JSON.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("engine_records");
/// The number of the last change in `RECORDS`, under the empty key.
const LAST: TableDefinition<'_, &str, u64> = TableDefinition::new("engine_last_change");

/// How long changes gather before they are flushed together. Most containers of a test suite live shorter
/// than this and never reach the disk.
const GATHER: Duration = Duration::from_millis(20);

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot {operation} the engine's records: {source}")]
    Database { operation: &'static str, source: Box<redb::Error> },
    #[error("cannot write the journal `{}`: {source}", path.display())]
    Journal { path: PathBuf, source: io::Error },
}

fn database<E: Into<redb::Error>>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Database { operation, source: Box::new(error.into()) }
}

/// One change: a new value, or none for a removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Change {
    number: u64,
    key: String,
    value: Option<Box<serde_json::value::RawValue>>,
}

enum Message {
    Change(Change),
    Flush(mpsc::Sender<()>),
}

/// The store. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Store {
    database: Arc<Database>,
    journal: Arc<Mutex<Journal>>,
}

struct Journal {
    directory: PathBuf,
    file: File,
    /// Changes the writer thread hasn't taken into a transaction yet are in `file` alone.
    generation: u64,
    number: u64,
    writer: mpsc::Sender<Message>,
}

fn journal_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("journal.{generation}"))
}

impl Store {
    /// Opens the store, with what the journal in `directory` has more.
    pub(crate) fn open(database_handle: Arc<Database>, directory: &Path) -> Result<Store, StoreError> {
        let last = replay(&database_handle, directory)?;
        let path = journal_path(directory, 0);
        let file = File::create(&path).map_err(|source| StoreError::Journal { path, source })?;
        let (writer, messages) = mpsc::channel();
        let journal = Arc::new(Mutex::new(Journal {
            directory: directory.to_owned(),
            file,
            generation: 0,
            number: last,
            writer,
        }));
        let shared = Arc::downgrade(&journal);
        let writing = database_handle.clone();
        let thread = std::thread::Builder::new().name("records".into()).spawn(move || {
            let (mut pending, mut superfluous) = (Vec::new(), Vec::new());
            while let Some((batch, flushes)) = gather(&messages) {
                pending.extend(batch);
                // The journal is turned over before the transaction: the old file then holds nothing that
                // the transaction doesn't.
                let Some(journal) = shared.upgrade() else { break };
                let directory = turn_over(&journal, &messages, &mut pending, &mut superfluous);
                drop(journal);
                match commit(&writing, &pending) {
                    Ok(()) => {
                        pending.clear();
                        for generation in superfluous.drain(..) {
                            let _ = fs::remove_file(journal_path(&directory, generation));
                        }
                    }
                    Err(error) => {
                        tracing::error!("{error}; the changes stay in the journal and are tried again");
                    }
                }
                for flush in flushes {
                    let _ = flush.send(());
                }
            }
        });
        thread.map_err(|source| StoreError::Journal { path: directory.to_owned(), source })?;
        Ok(Store { database: database_handle, journal })
    }

    /// Every record of a kind: key and JSON.
    pub(crate) fn all<T: for<'de> Deserialize<'de>>(
        &self,
        kind: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let transaction = self.database.begin_read().map_err(database("read"))?;
        let table = match transaction.open_table(RECORDS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(database("read")(error)),
        };
        let (first, end) = (format!("{kind}/"), format!("{kind}0"));
        let mut records = Vec::new();
        for row in table.range(first.as_str()..end.as_str()).map_err(database("read"))? {
            let (key, value) = row.map_err(database("read"))?;
            let key = key.value()[first.len()..].to_owned();
            match serde_json::from_slice(value.value()) {
                Ok(record) => records.push((key, record)),
                Err(error) => tracing::error!("record {kind}/{key} is unreadable and left alone: {error}"),
            }
        }
        Ok(records)
    }

    /// A new value of a record. It holds from now on, whatever happens to this process.
    pub(crate) fn put<T: Serialize>(&self, kind: &str, key: &str, value: &T) {
        match serde_json::value::to_raw_value(value) {
            Ok(value) => self.change(format!("{kind}/{key}"), Some(value)),
            Err(error) => tracing::error!("record {kind}/{key} can't be written: {error}"),
        }
    }

    /// Removes a record.
    pub(crate) fn delete(&self, kind: &str, key: &str) {
        self.change(format!("{kind}/{key}"), None);
    }

    fn change(&self, key: String, value: Option<Box<serde_json::value::RawValue>>) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.number += 1;
        let change = Change { number: journal.number, key, value };
        let line = serde_json::to_vec(&change).map(|mut line| {
            line.push(b'\n');
            line
        });
        let written = line.map_err(io::Error::from).and_then(|line| journal.file.write_all(&line));
        if let Err(error) = written {
            tracing::error!("cannot write the journal: {error}");
        }
        let _ = journal.writer.send(Message::Change(change));
    }

    /// Waits until everything up to now is on disk.
    pub(crate) fn flush(&self) {
        let (sender, done) = mpsc::channel();
        let writer = self.journal.lock().unwrap_or_else(PoisonError::into_inner).writer.clone();
        if writer.send(Message::Flush(sender)).is_ok() {
            let _ = done.recv();
        }
    }
}

/// Waits for a change, then for those that come soon after. Nothing when the store was dropped.
fn gather(messages: &mpsc::Receiver<Message>) -> Option<(Vec<Change>, Vec<mpsc::Sender<()>>)> {
    let (mut changes, mut flushes) = (Vec::new(), Vec::new());
    match messages.recv().ok()? {
        Message::Change(change) => changes.push(change),
        Message::Flush(sender) => flushes.push(sender),
    }
    let end = std::time::Instant::now() + GATHER;
    while flushes.is_empty() {
        match messages.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
            Ok(Message::Change(change)) => changes.push(change),
            Ok(Message::Flush(sender)) => flushes.push(sender),
            Err(_) => break,
        }
    }
    Some((changes, flushes))
}

/// Begins a new journal file and takes what was sent before it; says where the journal is.
fn turn_over(
    journal: &Mutex<Journal>,
    messages: &mpsc::Receiver<Message>,
    pending: &mut Vec<Change>,
    superfluous: &mut Vec<u64>,
) -> PathBuf {
    let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
    // Senders hold the lock, so what is in the channel now is what the old file has.
    while let Ok(message) = messages.try_recv() {
        match message {
            Message::Change(change) => pending.push(change),
            Message::Flush(sender) => {
                let _ = journal.writer.send(Message::Flush(sender));
                break;
            }
        }
    }
    if !pending.is_empty() {
        let generation = journal.generation + 1;
        match File::create(journal_path(&journal.directory, generation)) {
            Ok(file) => {
                superfluous.push(journal.generation);
                journal.file = file;
                journal.generation = generation;
            }
            Err(error) => tracing::error!("cannot begin a new journal: {error}"),
        }
    }
    journal.directory.clone()
}

/// Writes changes as one durable transaction; of several for one record only the last.
fn commit(database_handle: &Database, batch: &[Change]) -> Result<(), StoreError> {
    let Some(last) = batch.iter().map(|change| change.number).max() else { return Ok(()) };
    let mut newest: HashMap<&str, &Change> = HashMap::new();
    for change in batch {
        newest.insert(&change.key, change);
    }
    let transaction = database_handle.begin_write().map_err(database("change"))?;
    {
        let mut records = transaction.open_table(RECORDS).map_err(database("change"))?;
        for (key, change) in newest {
            match &change.value {
                Some(value) => {
                    records.insert(key, value.get().as_bytes()).map_err(database("change"))?;
                }
                None => {
                    records.remove(key).map_err(database("change"))?;
                }
            }
        }
        let mut table = transaction.open_table(LAST).map_err(database("change"))?;
        table.insert("", last).map_err(database("change"))?;
    }
    transaction.commit().map_err(database("change"))
}

/// Takes over what a journal has that the store hasn't; returns the number of the last change.
fn replay(database_handle: &Database, directory: &Path) -> Result<u64, StoreError> {
    let journal = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Journal { path, source }
    };
    fs::create_dir_all(directory).map_err(journal(directory))?;
    let last = last_change(database_handle)?;
    let mut changes = Vec::new();
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(journal(directory))? {
        let entry = entry.map_err(journal(directory))?;
        if entry.file_name().to_string_lossy().starts_with("journal.") {
            files.push(entry.path());
        }
    }
    for path in &files {
        let content = fs::read(path).map_err(journal(path))?;
        // The last line may be half of one: it was never acknowledged.
        let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        changes.extend(lines.filter_map(|line| serde_json::from_slice::<Change>(line).ok()));
    }
    changes.retain(|change| change.number > last);
    changes.sort_by_key(|change| change.number);
    if !changes.is_empty() {
        tracing::info!("taking over {} changes from the journal", changes.len());
        commit(database_handle, &changes)?;
    }
    for path in files {
        let _ = fs::remove_file(path);
    }
    Ok(changes.last().map_or(last, |change| change.number))
}

fn last_change(database_handle: &Database) -> Result<u64, StoreError> {
    let transaction = database_handle.begin_read().map_err(database("read"))?;
    match transaction.open_table(LAST) {
        Ok(table) => Ok(table.get("").map_err(database("read"))?.map_or(0, |value| value.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(database("read")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Store {
        let database = Arc::new(Database::create(directory.join("state.redb")).unwrap());
        Store::open(database, &directory.join("run")).unwrap()
    }

    #[test]
    fn records_survive_a_flush_and_a_new_opening() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.put("a", "1", &"one");
        store.put("ab", "2", &"two");
        store.delete("a", "1");
        store.put("a", "3", &"three");
        store.flush();
        let all: Vec<(String, String)> = store.all("a").unwrap();
        assert_eq!(all, [("3".to_owned(), "three".to_owned())]);
    }

    #[test]
    fn a_journal_is_replayed_and_an_older_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::create(directory.path().join("state.redb")).unwrap());
        let run = directory.path().join("run");
        fs::create_dir_all(&run).unwrap();
        let lines = |pairs: &[(u64, &str, &str)]| {
            pairs
                .iter()
                .map(|(number, key, value)| {
                    format!("{{\"number\":{number},\"key\":\"{key}\",\"value\":{value}}}\n")
                })
                .collect::<String>()
        };
        let half = "{\"number\":9,\"key\":\"a/9\",\"val";
        fs::write(run.join("journal.4"), lines(&[(2, "a/1", "\"new\""), (3, "a/2", "null")]) + half).unwrap();
        fs::write(run.join("journal.3"), lines(&[(1, "a/1", "\"old\""), (1, "a/2", "\"gone\"")])).unwrap();
        let store = Store::open(database.clone(), &run).unwrap();
        assert_eq!(store.all::<String>("a").unwrap(), [("1".to_owned(), "new".to_owned())]);
        drop(store);
        fs::write(run.join("journal.9"), lines(&[(1, "a/1", "\"stale\"")])).unwrap();
        let store = Store::open(database, &run).unwrap();
        assert_eq!(store.all::<String>("a").unwrap(), [("1".to_owned(), "new".to_owned())]);
    }

    #[test]
    fn a_change_is_in_the_journal_before_put_returns() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.put("a", "1", &"one");
        let content: String = fs::read_dir(directory.path().join("run"))
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default())
            .collect();
        let on_disk = store.all::<String>("a").unwrap();
        assert!(content.contains("a/1") || !on_disk.is_empty());
    }
}
