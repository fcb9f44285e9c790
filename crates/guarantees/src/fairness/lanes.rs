//! Levels of a run, and those that every server has.

use bedplate_apf::bootstrap;

use crate::Context;

/// Shares of a level, of the run or of every server; nothing for one that is unknown. Exempt
/// levels have more than anyone.
pub(super) fn shares(name: &str, cx: &Context<'_>) -> Option<i64> {
    if name == "exempt" {
        return Some(i64::MAX);
    }
    let own = cx.neighbours.priority_level(name);
    own.map(|level| if level.is_exempt() { i64::MAX } else { level.shares() })
        .or_else(|| bootstrap::LEVELS.iter().find(|level| level.name == name).map(|level| level.shares))
}
