//! How levels lend and borrow seats every ten seconds (`pkg/util/flowcontrol/apf_controller.go`, `updateBorrowingLocked`;
//! `conc_alloc.go`).

use crate::queues::Nanos;

/// Between two adjustments.
pub const PERIOD: Nanos = 10_000_000_000;

/// Weight of what was in what is: after five minutes half is forgotten.
const SMOOTHING: f64 = 0.977;

/// The seats that a level held and waited for, over time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    seats: f64,
    since: Nanos,
    most: f64,
    elapsed: f64,
    sum: f64,
    squares: f64,
    /// Of the last periods, weighted.
    smoothed: f64,
    /// The most in the last period.
    high: i64,
}

impl Demand {
    /// From now on it is so many seats.
    pub fn set(&mut self, now: Nanos, seats: u64) {
        self.pass(now);
        self.seats = seats as f64;
        self.most = self.most.max(self.seats);
    }

    fn pass(&mut self, now: Nanos) {
        let seconds = now.saturating_sub(self.since) as f64 / 1e9;
        self.since = now;
        self.elapsed += seconds;
        self.sum += self.seats * seconds;
        self.squares += self.seats * self.seats * seconds;
    }

    /// Ends a period.
    fn close(&mut self, now: Nanos) {
        self.pass(now);
        self.high = self.most.round() as i64;
        if self.elapsed > 0.0 {
            let average = self.sum / self.elapsed;
            let deviation = (self.squares / self.elapsed - average * average).max(0.0).sqrt();
            let envelope = average + deviation;
            self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
        }
        (self.most, self.elapsed, self.sum, self.squares) = (self.seats, 0.0, 0.0, 0.0);
    }
}

/// A level, as far as seats go.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Whether its requests never wait.
    pub exempt: bool,
    /// Its part.
    pub nominal: i64,
    /// What it never lends.
    pub min: i64,
    /// The most it can have.
    pub max: i64,
    /// What it was asked for.
    pub demand: Demand,
}

impl Share {
    fn floor(&self) -> i64 {
        let asked = if self.exempt { self.demand.high } else { self.demand.high.min(self.nominal) };
        self.min.max(asked)
    }
}

/// The seats of each level for the next period; `current` are those of the last one.
#[must_use]
pub fn adjust(now: Nanos, shares: &mut [Share], current: &[i64]) -> Vec<i64> {
    shares.iter_mut().for_each(|share| share.demand.close(now));
    let total: i64 = shares.iter().map(|share| share.nominal).sum();
    let exempt: i64 = shares.iter().filter(|share| share.exempt).map(Share::floor).sum();
    let left = total - exempt;
    let limited = || shares.iter().filter(|share| !share.exempt);
    let (least, floors): (i64, i64) = (limited().map(|share| share.min).sum(), limited().map(Share::floor).sum());
    let of_limited: Vec<i64> = if left <= least {
        limited().map(|share| share.min).collect()
    } else if left <= floors {
        let fraction = (left - least) as f64 / (floors - least) as f64;
        limited().map(|share| share.min + ((share.floor() - share.min) as f64 * fraction).round() as i64).collect()
    } else {
        let classes: Vec<_> = limited()
            .map(|share| {
                let floor = share.floor() as f64;
                Class { target: floor.max(share.demand.smoothed), least: floor, most: share.max as f64 }
            })
            .collect();
        match allocate(total as f64, &classes) {
            Some(seats) => seats.into_iter().map(|seats| seats.round() as i64).collect(),
            // The server keeps what is.
            None => {
                shares.iter().zip(current).filter(|(share, _)| !share.exempt).map(|(_, current)| *current).collect()
            }
        }
    };
    let mut of_limited = of_limited.into_iter();
    shares
        .iter()
        .map(|share| if share.exempt { share.floor() } else { of_limited.next().unwrap_or(share.min) })
        .collect()
}

/// Somebody to be given a part: what he is to have in proportion, and bounds.
#[derive(Clone, Copy, Debug)]
struct Class {
    target: f64,
    least: f64,
    most: f64,
}

/// A target below this counts as this.
const LEAST_TARGET: f64 = 0.001;
const EPSILON: f64 = 1e-7;

/// Parts that sum to `sum`: of each its target times one common factor, kept within its bounds. Nothing where the bounds
/// do not allow that. In the server's order of operations (`computeConcurrencyAllocation`), so that what lies between two
/// whole numbers is rounded as there.
fn allocate(sum: f64, classes: &[Class]) -> Option<Vec<f64>> {
    let target = |class: &Class| class.target.max(LEAST_TARGET);
    let total = |of: fn(&Class) -> f64| classes.iter().map(of).sum::<f64>();
    let (least, most) = (total(|class| class.least), total(|class| class.most));
    let possible =
        classes.iter().all(|class| 0.0 <= class.least && class.least <= class.target && class.least <= class.most);
    if !possible || least - sum > EPSILON || sum - most > EPSILON {
        return None;
    }
    if sum == 0.0 {
        return Some(vec![0.0; classes.len()]);
    }
    if least - sum > -EPSILON {
        return Some(classes.iter().map(|class| class.least).collect());
    }
    if sum - most > -EPSILON {
        return Some(classes.iter().map(|class| class.most).collect());
    }
    let factor = sum / classes.iter().map(target).sum::<f64>();
    let fits = |class: &Class| class.least / target(class) <= factor && factor <= class.most / target(class);
    if classes.iter().all(fits) {
        return Some(classes.iter().map(|class| target(class) * factor).collect());
    }
    // The sum grows with the factor, straight between the factors at which somebody leaves the lower bound or meets the
    // upper one.
    let mut corners: Vec<(f64, f64)> = classes
        .iter()
        .flat_map(|class| {
            let target = target(class);
            [(class.least / target, target), (class.most / target, -target)]
        })
        .collect();
    corners.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut so_far, mut factor) = (least, corners.first()?.0);
    // The targets of those who are between their bounds, and how many they are: at the last one, sums of fractions would
    // leave something.
    let (mut between, mut count) = (0.0, 0_i32);
    let mut corners = corners.into_iter().peekable();
    while so_far < sum {
        while let Some((_, change)) = corners.next_if(|(at, _)| *at <= factor) {
            between += change;
            count += if change > 0.0 { 1 } else { -1 };
        }
        let next = corners.peek()?.0;
        if count == 0 {
            factor = next;
            continue;
        }
        let wanted = factor + (sum - so_far) / between;
        if wanted <= next {
            factor = wanted;
            break;
        }
        so_far += (next - factor) * between;
        factor = next;
    }
    Some(classes.iter().map(|class| (factor * target(class)).min(class.most).max(class.least)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(nominal: i64, min: i64, max: i64) -> Share {
        Share { exempt: false, nominal, min, max, demand: Demand::default() }
    }

    /// Users flood a level that lends nothing, while another has nothing to do and lends nearly all.
    #[test]
    fn a_level_with_nothing_to_do_lends_its_seats_and_gets_them_back() {
        let mut shares = [share(100, 10, 700), share(100, 100, 700)];
        shares[1].demand.set(0, 300);
        let lent = adjust(PERIOD, &mut shares, &[55, 100]);
        assert_eq!(lent.iter().sum::<i64>(), 200);
        assert!(lent[0] <= 11 && lent[1] >= 189, "{lent:?}");
        shares[0].demand.set(PERIOD, 80);
        let back = adjust(2 * PERIOD, &mut shares, &lent);
        assert!(back[0] >= 80, "{back:?}");
    }

    #[test]
    fn who_may_not_borrow_does_not() {
        let mut shares = [share(100, 0, 700), share(5, 5, 5)];
        shares[1].demand.set(0, 500);
        assert_eq!(adjust(PERIOD, &mut shares, &[50, 5]), [100, 5]);
    }

    proptest! {
        /// The properties that `computeConcurrencyAllocation` promises.
        #[test]
        fn parts_are_fair(sum in 1.0..500.0_f64, items in prop::collection::vec((0.0..50.0_f64, 0.0..50.0_f64, 0.0..100.0_f64), 1..8)) {
            let classes: Vec<_> = items.iter().map(|(least, more, above)| Class { least: *least, target: least + more, most: least + above }).collect();
            let (least, most): (f64, f64) = (classes.iter().map(|class| class.least).sum(), classes.iter().map(|class| class.most).sum());
            match allocate(sum, &classes) {
                None => prop_assert!(sum < least || sum > most),
                Some(parts) => {
                    prop_assert!((parts.iter().sum::<f64>() - sum).abs() < 1e-6 * sum.max(1.0), "{parts:?}");
                    let free = classes.iter().zip(&parts).find(|(class, part)| class.least + 1e-9 < **part && **part < class.most - 1e-9);
                    if let Some((class, part)) = free {
                        let factor = part / class.target.max(LEAST_TARGET);
                        for (class, part) in classes.iter().zip(&parts) {
                            let wanted = (class.target.max(LEAST_TARGET) * factor).clamp(class.least, class.most);
                            prop_assert!((wanted - part).abs() < 1e-6 * wanted.max(1.0));
                        }
                    }
                }
            }
        }
    }
}
