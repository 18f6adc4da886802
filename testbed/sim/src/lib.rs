//! watari-sim.
