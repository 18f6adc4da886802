//! Judges that share no code with the agent: a small capture reader that says what crossed a link in clear, and tshark,
//! whose word on what is malformed counts.

pub(crate) mod clear;
pub(crate) mod pcap;
pub(crate) mod tshark;
