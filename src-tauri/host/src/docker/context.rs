//! The Docker context `sampan`.
