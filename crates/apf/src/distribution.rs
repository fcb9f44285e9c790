//! Many durations in little memory.

/// Parts of each doubling: a quantile is right to 1 in 128.
const PARTS: u32 = 64;

/// Durations in microseconds, counted in classes that are 1.6 % wide: some kilobytes, however many they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u32>,
    count: u64,
    sum: u64,
    most: u32,
}

impl Distribution {
    /// One more.
    pub fn add(&mut self, micros: u32) {
        let class = class(micros);
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] = self.counts[class].saturating_add(1);
        self.count += 1;
        self.sum += u64::from(micros);
        self.most = self.most.max(micros);
    }

    /// Those of another too.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.saturating_add(*more);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.most = self.most.max(other.most);
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean, in milliseconds; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64 / 1e3
    }

    /// A quantile, in milliseconds; 0 of nothing.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        let rank = ((self.count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return middle(class).min(f64::from(self.most)) / 1e3;
            }
        }
        0.0
    }
}

/// The class of a value: itself where it is small, else its power of two and the bits after the first.
fn class(micros: u32) -> usize {
    if micros < PARTS {
        return micros as usize;
    }
    let power = micros.ilog2() - PARTS.ilog2();
    ((power + 1) * PARTS + (micros >> power) - PARTS) as usize
}

/// The middle of a class.
fn middle(class: usize) -> f64 {
    let parts = PARTS as usize;
    if class < parts {
        return class as f64;
    }
    let (power, part) = (class / parts - 1, class % parts + parts);
    (part as f64 + 0.5) * (1_u64 << power) as f64 - 0.5
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_nothing_it_is_nothing() {
        assert_eq!((Distribution::default().quantile(0.99), Distribution::default().mean()), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn a_quantile_is_that_of_the_sorted_values_but_for_a_hundredth(mut values in prop::collection::vec(any::<u32>(), 1..500), quantile in 0.0..=1.0_f64) {
            let mut all = Distribution::default();
            let mut halves = [Distribution::default(), Distribution::default()];
            for (at, value) in values.iter().enumerate() {
                all.add(*value);
                halves[at % 2].add(*value);
            }
            let [mut one, other] = halves;
            one.merge(&other);
            prop_assert_eq!(&one, &all);
            values.sort_unstable();
            let exact = f64::from(values[((values.len() as f64 * quantile).ceil() as usize).max(1) - 1]) / 1e3;
            let found = all.quantile(quantile);
            prop_assert!((found - exact).abs() <= exact * 0.01 + 0.001, "{} {}", found, exact);
        }
    }
}
