//! DNS in a cluster: what a lookup costs, and what a Corefile does. Pure.

pub mod corefile;
pub mod resolver;

pub use corefile::{Corefile, CorefileError, Plugin, ServerBlock, Token};
pub use resolver::ResolvConf;
