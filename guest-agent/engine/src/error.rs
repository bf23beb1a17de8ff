//! What can go wrong, as the client of Docker's API is told.
//!
//! A kind decides the status code at the edge; the message is dockerd's wording, because clients compare it.

use std::fmt;

/// The class of a failure. `api` maps each to one status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No such container, image, network, volume, exec (404).
    NotFound,
    /// The object is in a state or use that forbids it (409).
    Conflict,
    /// The request can't be meant (400).
    InvalidParameter,
    /// Already so (304).
    NotModified,
    /// Something it needs is not there now (503).
    Unavailable,
    /// Not allowed (403).
    Forbidden,
    /// No or wrong credentials (401).
    Unauthorized,
    /// Docker has it, this engine hasn't (501).
    NotImplemented,
    /// The system failed (500).
    System,
}

/// A failure with a user's sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Its class.
    pub kind: Kind,
    /// What happened, in dockerd's words where it has any.
    pub message: String,
}

/// Result of an engine's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($(#[$meta:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$meta])* pub fn $name(message: impl fmt::Display) -> Self {
                Error { kind: Kind::$kind, message: message.to_string() }
            })*
        }
    };
}

constructors! {
    /// See [`Kind::NotFound`].
    not_found => NotFound;
    /// See [`Kind::Conflict`].
    conflict => Conflict;
    /// See [`Kind::InvalidParameter`].
    invalid => InvalidParameter;
    /// See [`Kind::NotModified`].
    not_modified => NotModified;
    /// See [`Kind::Unavailable`].
    unavailable => Unavailable;
    /// See [`Kind::Forbidden`].
    forbidden => Forbidden;
    /// See [`Kind::Unauthorized`].
    unauthorized => Unauthorized;
    /// See [`Kind::NotImplemented`].
    not_implemented => NotImplemented;
    /// See [`Kind::System`].
    system => System;
}

impl Error {
    /// A failure of the system: what was tried, and why it failed.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Error::system(format_args!("{what}: {error}"))
    }
}
