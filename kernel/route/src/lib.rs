//! watari-route.
