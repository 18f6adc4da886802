//! VICI, strongSwan's control protocol: messages as values and as octets, both ways.
//! Invariant: sections and lists are balanced; names fit 255 octets, values 65,535.

/// A value in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text or octets.
    Scalar(Vec<u8>),
    /// A list of scalars.
    List(Vec<Vec<u8>>),
    /// A nested section.
    Section(Section),
}

/// Named values in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section(pub Vec<(String, Value)>);
