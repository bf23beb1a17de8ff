//! Pulling, loading, saving and removing through the public interface, against a real registry and hostile ones.

mod archives;
mod fixture;
mod hostile;
mod pull;
mod remove;
mod server;
