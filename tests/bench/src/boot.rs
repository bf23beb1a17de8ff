//! Power-on to an answering API.
