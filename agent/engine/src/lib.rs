//! watari-engine.
