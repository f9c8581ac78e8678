//! Load for key-value servers: what is stored under which key, which key is next, and how to ask.

pub mod keys;
pub mod latency;
pub mod resp;
pub mod rival;
pub mod server;
pub mod session;
pub mod values;
