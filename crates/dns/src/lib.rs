//! DNS in a cluster: what a lookup costs, and what a Corefile does. Pure.

pub mod client;
pub mod conf;
pub mod corefile;
pub mod lookup;

pub use client::{CLIENTS, Client};
pub use conf::ResolvConf;
pub use corefile::{Corefile, CorefileError, Plugin, ServerBlock, Token};
pub use lookup::{Answer, Family, Lookup, lookup};
