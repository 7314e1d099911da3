//! Rehearsed disasters: real restores, real losses, a verdict that can be "no".
//!
//! What always holds: a drill runs the real program; what it compares with was
//! recorded from the live system before the disaster; what could not be verified
//! is a failure.

pub mod demo;
pub mod jargon;
pub mod sim;
mod stage;
