//! What a level tells those that it refuses: `Retry-After` (`pkg/util/flowcontrol/dropped_requests_tracker.go`).
//!
//! It doubles when a level has refused three requests a second of it, at most once in its own time, and falls by one
//! second when there was less than one: 1 to 32 s.

use std::collections::VecDeque;

/// The longest that anybody is sent away for, in seconds.
const MOST: i64 = 32;

/// The refusals of a level.
#[derive(Clone, Debug)]
pub struct Refusals {
    /// Seconds in which there were some, and how many.
    history: VecDeque<(i64, i64)>,
    second: i64,
    count: i64,
    retry_after: i64,
    /// When it was last doubled.
    raised: i64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { history: VecDeque::new(), second: 0, count: 0, retry_after: 1, raised: 0 }
    }
}

impl Refusals {
    /// Somebody is refused in this second (of a clock that has run for longer than a minute: the server's is since 1970).
    /// Gives after how many seconds he may come again.
    pub fn refuse(&mut self, second: i64) -> i64 {
        if self.second == second {
            self.count += 1;
            return self.retry_after;
        }
        self.history.push_back((self.second, self.count));
        while self.history.front().is_some_and(|(past, _)| self.second - past > MOST) {
            self.history.pop_front();
        }
        (self.second, self.count) = (second, 1);
        let recent = self.history.iter().rev().take_while(|(past, _)| second - past <= self.retry_after);
        let refused: i64 = recent.filter(|(past, _)| *past < second).map(|(_, count)| count).sum();
        if second - self.raised >= self.retry_after && refused >= 3 * self.retry_after {
            self.retry_after = (self.retry_after * 2).min(MOST);
            self.raised = second;
        } else if refused < self.retry_after && self.retry_after > 1 {
            self.retry_after -= 1;
        }
        self.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood that does not end is told to come less and less often; after it, one second at a time is enough.
    #[test]
    fn who_is_refused_waits_longer_while_many_are() {
        let mut refusals = Refusals::default();
        let mut told: Vec<i64> = (0..140).map(|tenth| refusals.refuse(1_000_000 + tenth / 10)).collect();
        told.dedup();
        assert_eq!(told, [1, 2, 4, 8]);
        let later: Vec<i64> = (0..9).map(|n| refusals.refuse(1_000_100 + n * 40)).collect();
        assert_eq!(later, [7, 6, 5, 4, 3, 2, 1, 1, 1]);
    }
}
