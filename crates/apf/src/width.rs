//! How many seats a request takes (`pkg/util/flowcontrol/request/{list,mutating}_work_estimator.go`, `config.go`), with the
//! server's defaults of 1.37: lists by the bytes that they load (`SizeBasedListCostEstimate`, on since 1.34), writes by the
//! watches that they tell.

use crate::queues::{Nanos, Width};
use crate::types::Queuing;

/// Most seats of a list, and of a write, whatever the level.
const MOST_OF_LIST: u64 = 100;
const MOST_OF_WRITE: u64 = 10;
/// Bytes that a seat is for.
const BYTES: u64 = 100_000;
/// What a list from the watch cache holds in memory at once at most: it is written as a stream.
const STREAMED: u64 = 1_000_000;
/// The size of an object where the server knows none.
const UNKNOWN_SIZE: u64 = 1_500_000;
/// Watches that one more seat is for, and for how long.
const WATCHES: u64 = 10;
const EVENT: Nanos = 5_000_000;

/// Most seats of one request of a level that has queues (`finishQueueSetReconfigsLocked`): a seventh of its nominal seats,
/// and so few that a hand of queues does not hold them all. A level without queues sets no such limit.
#[must_use]
pub fn max_seats(nominal: i64, queuing: Option<Queuing>) -> Option<u64> {
    let hand = i64::from(queuing?.hand_size.max(1));
    let part = (nominal as f64 * 0.15).ceil();
    Some(part.min((nominal / hand) as f64).max(1.0) as u64)
}

/// A list, or a watch that begins with one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Objects of the resource that the server holds, in all namespaces.
    pub objects: u64,
    /// Bytes of one of them, mean; 0 where the server does not know.
    pub bytes: u64,
    /// `limit` of the request; 0 for none.
    pub limit: u64,
    /// Whether it has a label or field selector.
    pub selects: bool,
    /// Whether it has to be read from etcd: a page after the first one, an exact resource version.
    pub from_storage: bool,
}

/// What a request asks for, as far as its width goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// So many seats, whatever the level.
    Seats(u64),
    /// A list.
    List(List),
    /// A write, which so many watches are told of.
    Write(u64),
}

impl Asks {
    /// How wide it is in a level, given that level's [`max_seats`].
    #[must_use]
    pub fn width(self, max_seats: Option<u64>) -> Width {
        let most = |limit: u64| max_seats.map_or(limit, |seats| seats.min(limit));
        match self {
            Self::Seats(initial_seats) => Width { initial_seats, ..Width::ONE },
            Self::List(list) => {
                let bytes = if list.bytes == 0 { UNKNOWN_SIZE } else { list.bytes };
                let page = if list.limit > 0 { list.limit.min(list.objects) } else { list.objects };
                let loaded = if list.from_storage && list.selects { page.max(list.objects / 2) } else { page };
                let memory = loaded.saturating_mul(bytes);
                let memory = if list.from_storage { memory } else { memory.min(STREAMED) };
                Width { initial_seats: memory.div_ceil(BYTES).max(1).min(most(MOST_OF_LIST)), ..Width::ONE }
            }
            Self::Write(watches) if watches < WATCHES => Width::ONE,
            Self::Write(watches) => {
                let wide = Width { initial_seats: 1, final_seats: watches.div_ceil(WATCHES), additional: EVENT };
                wide.narrowed(most(MOST_OF_WRITE))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5,000 jobs of 4 KB: a page from etcd is 2 MB, the whole from the cache is streamed.
    #[test]
    fn a_list_is_as_wide_as_what_it_loads() {
        let list = List { objects: 5000, bytes: 4000, limit: 500, ..List::default() };
        let seats = |list: List, most| Asks::List(list).width(most).initial_seats;
        assert_eq!(seats(list, None), 10);
        assert_eq!(seats(List { from_storage: true, ..list }, None), 20);
        assert_eq!(seats(List { from_storage: true, selects: true, ..list }, None), 100);
        assert_eq!(seats(List { from_storage: true, selects: true, ..list }, Some(36)), 36);
        assert_eq!(seats(List::default(), None), 1);
    }

    #[test]
    fn a_write_that_many_watch_holds_seats_after_its_answer_narrow_and_longer() {
        assert_eq!(Asks::Write(9).width(None), Width::ONE);
        assert_eq!(Asks::Write(95).width(None), Width { initial_seats: 1, final_seats: 10, additional: 5_000_000 });
        // 100 seats for 5 ms are 10 for 50.
        assert_eq!(
            Asks::Write(1000).width(Some(36)),
            Width { initial_seats: 1, final_seats: 10, additional: 50_000_000 }
        );
    }

    #[test]
    fn a_request_never_takes_a_whole_level() {
        let queuing = |hand_size| Some(Queuing { queues: 64, hand_size, queue_length_limit: 50 });
        assert_eq!(max_seats(245, queuing(6)), Some(37));
        assert_eq!(max_seats(20, queuing(8)), Some(2));
        assert_eq!(max_seats(2, queuing(8)), Some(1));
        assert_eq!(max_seats(245, None), None);
    }
}
