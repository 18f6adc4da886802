//! watari-crypto.
