//! DNS in a cluster: what a lookup costs, and what a Corefile does. Pure.

pub mod autopath;
pub mod client;
pub mod conf;
pub mod corefile;
pub mod log;
pub mod lookup;
pub mod metrics;
pub mod plugins;

pub use client::{CLIENTS, Client};
pub use conf::ResolvConf;
pub use corefile::{Corefile, CorefileError, Edit, Plugin, ServerBlock, Token, Zone};
pub use lookup::{Answer, Family, Lookup, lookup};
