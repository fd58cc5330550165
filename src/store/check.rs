//! Check.
use super::{CheckReport, Core};
use crate::error::Result;
pub fn check(_core: &Core, _progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
    Ok(CheckReport::default())
}
