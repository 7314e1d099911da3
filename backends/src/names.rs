//! Listing by names: what the storage trait cannot leave out is the size of each object,
//! and in a folder of this machine that costs more than everything else.
//!
//! What always holds: every name that an ordinary listing shows is here too, whether its
//! size was looked at or not, and a size that is told was looked at now. Only kinds of
//! store where sizes are not free have [`Names`]; with the others, list.
//!
//! Unlike an ordinary listing this one makes nothing durable: nobody may lean on what it
//! shows.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::BackendError;

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name, relative to the location.
    pub name: String,
    /// Its bytes, if they were looked at.
    pub bytes: Option<u64>,
}

/// Whether the size of an object of this name is looked at.
pub type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Which sizes are looked at.
#[derive(Clone)]
pub struct Sizes {
    /// If there are no more objects than this: all.
    pub all_up_to: usize,
    /// If there are more: those of these names.
    pub wanted: Wanted,
}

/// Names of objects.
#[async_trait]
pub trait Names: fmt::Debug + Send + Sync {
    /// All below a folder, in byte order.
    async fn names(&self, folder: &str, sizes: Sizes) -> Result<Vec<Named>, BackendError>;
}
