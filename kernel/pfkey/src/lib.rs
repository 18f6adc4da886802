//! watari-pfkey.
