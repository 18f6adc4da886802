//! watari-sa.
