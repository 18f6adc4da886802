//! watari-kernel.
