//! watari-wire.
