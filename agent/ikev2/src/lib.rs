//! watari-ikev2.
