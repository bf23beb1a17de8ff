//! `docker.sock` on the host.
