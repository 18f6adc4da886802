//! watari-sys.
