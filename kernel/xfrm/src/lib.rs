//! watari-xfrm.
