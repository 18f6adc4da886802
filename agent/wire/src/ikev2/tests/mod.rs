//! Known messages both ways, what must be refused, and that nothing a peer can send causes a panic.

mod hostile;
mod known;
mod refused;
mod vectors;
