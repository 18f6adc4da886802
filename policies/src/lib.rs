//! watari-policies.
