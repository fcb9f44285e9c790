//! Seats of each level (`pkg/util/flowcontrol/apf_controller.go`, `updateLocked`).

/// Seats of a level on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Its fair part: `ceil(total * shares / sum of shares)`.
    pub nominal: i64,
    /// What no other level can borrow.
    pub min: i64,
    /// The most it can have by borrowing; nothing for no limit but the server's.
    pub max: Option<i64>,
}

/// A level's part in the sharing: shares, percent that it lends, percent that it may borrow.
pub type Part = (i64, i64, Option<i64>);

/// The seats of each level of a server with `total` seats, in the order given.
#[must_use]
pub fn concurrency(total: i64, levels: &[Part]) -> Vec<Concurrency> {
    let sum: i64 = levels.iter().map(|(shares, ..)| shares.max(&0)).sum();
    levels
        .iter()
        .map(|(shares, lendable, borrowing)| {
            let nominal = if sum == 0 { 0 } else { (total * shares.max(&0) + sum - 1) / sum };
            let percent = |percent: i64| (nominal as f64 * percent as f64 / 100.0).round() as i64;
            Concurrency {
                nominal,
                min: nominal - percent(lendable.clamp(&0, &100).to_owned()),
                max: borrowing.map(|limit| nominal + percent(limit.max(0))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bootstrap::LEVELS;

    #[test]
    fn a_fresh_server_gives_workload_low_245_of_600_seats() {
        let parts: Vec<Part> = LEVELS.iter().map(|level| (level.shares, level.lendable_percent, None)).collect();
        let seats = concurrency(600, &parts);
        let low = LEVELS.iter().position(|level| level.name == "workload-low").unwrap();
        assert_eq!((seats[low].nominal, seats[low].min), (245, 24));
    }

    proptest! {
        #[test]
        fn nobody_gets_less_than_its_part(total in 1_i64..5000, parts in prop::collection::vec((0_i64..500, 0_i64..=100), 1..12)) {
            let parts: Vec<Part> = parts.into_iter().map(|(shares, lendable)| (shares, lendable, Some(10))).collect();
            let seats = concurrency(total, &parts);
            for seat in &seats {
                prop_assert!(0 <= seat.min && seat.min <= seat.nominal && seat.nominal <= seat.max.unwrap());
            }
            let sum: i64 = seats.iter().map(|seat| seat.nominal).sum();
            let any = parts.iter().any(|(shares, ..)| *shares > 0);
            prop_assert!(!any || sum >= total && sum < total + parts.len() as i64);
        }
    }
}
