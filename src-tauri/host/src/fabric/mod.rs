//! What crosses the wall between guest and host.
