//! The owner's control socket.
