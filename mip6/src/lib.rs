//! watari-mip6.
