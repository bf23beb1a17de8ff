//! Which subnet a network gets and which address an endpoint gets. Pure: no clock, no kernel.
