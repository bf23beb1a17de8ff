//! The contents of a container's `/etc/hosts` and `/etc/resolv.conf`, as dockerd makes them. Pure functions.
