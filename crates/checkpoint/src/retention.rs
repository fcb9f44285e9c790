//! Which checkpoints are kept. Pure: what is known in, what goes out.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};

use crate::format::Metric;
use crate::name::StepId;

/// What to keep. What any of its rules keeps is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest.
    pub last: NonZeroUsize,
    /// Those whose step is a multiple of this, for ever.
    pub every: Option<NonZeroU64>,
    /// The best by a metric.
    pub best: Option<Best>,
}

/// The best by a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Best {
    /// Its name.
    pub metric: String,
    /// Which is better.
    pub direction: Direction,
    /// So many.
    pub count: NonZeroUsize,
}

/// Which value of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smaller: a loss.
    Min,
    /// The larger: an accuracy.
    Max,
}

/// How well a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Verified, as far as was asked.
    Whole,
    /// Nobody looked.
    Unknown,
    /// And why, as a sentence.
    Damaged(String),
}

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Which.
    pub id: StepId,
    /// What was measured at its step.
    pub metrics: BTreeMap<String, Metric>,
    /// How well it is.
    pub health: Health,
}

/// What is to be done with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub id: StepId,
    /// Why it is kept; empty when it goes.
    pub keep: Vec<String>,
}

/// Decides, in the order in which the checkpoints come. The second list is what somebody should be told.
///
/// The newest whole one stays whatever the rules say, and so does what is newer: a damaged checkpoint may be all that is
/// left of its step. Without a whole one nothing goes. What is damaged counts for no rule.
pub(crate) fn decide(rules: &Retention, known: &[Known]) -> (Vec<Verdict>, Vec<String>) {
    let mut told = Vec::new();
    let mut keep: BTreeMap<StepId, Vec<String>> = BTreeMap::new();
    let mut because = |id: StepId, why: String| keep.entry(id).or_default().push(why);

    let Some(newest) = known.iter().filter(|one| one.health == Health::Whole).map(|one| one.id).max() else {
        let verdicts = known
            .iter()
            .map(|one| Verdict { id: one.id, keep: vec!["none is known to be whole".to_owned()] })
            .collect();
        return (verdicts, told);
    };
    because(newest, "the newest that is whole".to_owned());
    for one in known {
        match &one.health {
            Health::Damaged(why) => {
                told.push(format!("{} is damaged and counts for no rule: {why}", one.id));
                if one.id > newest {
                    because(one.id, "damaged, but nothing newer is whole: some of it may be saved yet".to_owned());
                }
            }
            // Newer than what is known to be whole: nothing says that it is not.
            Health::Unknown if one.id > newest => because(one.id, "newer than the newest that was verified".to_owned()),
            _ => {}
        }
    }

    let mut sound: Vec<&Known> = known.iter().filter(|one| !matches!(one.health, Health::Damaged(_))).collect();
    sound.sort_by_key(|one| std::cmp::Reverse(one.id));
    for one in sound.iter().take(rules.last.get()) {
        because(one.id, format!("one of the last {}", rules.last));
    }
    if let Some(every) = rules.every {
        for one in sound.iter().filter(|one| one.id.step % every == 0) {
            because(one.id, format!("a multiple of {every}"));
        }
    }
    if let Some(best) = &rules.best {
        let mut rated: Vec<(f64, StepId)> = Vec::new();
        for one in &sound {
            match one.metrics.get(&best.metric) {
                Some(Metric(value)) if value.is_nan() => {
                    told.push(format!("{}: `{}` is NaN, which is never the best", one.id, best.metric));
                }
                Some(Metric(value)) => rated.push((*value, one.id)),
                None => told.push(format!("{} has no metric `{}`, so it is never the best", one.id, best.metric)),
            }
        }
        // Of the same value the newer one: the sort is stable and the newest come first.
        rated.sort_by(|(a, _), (b, _)| match best.direction {
            Direction::Min => a.total_cmp(b),
            Direction::Max => b.total_cmp(a),
        });
        for (value, id) in rated.iter().take(best.count.get()) {
            let word = if best.direction == Direction::Min { "lowest" } else { "highest" };
            because(*id, format!("{word} `{}`: {value}", best.metric));
        }
    }
    let verdict = |one: &Known| Verdict { id: one.id, keep: keep.remove(&one.id).unwrap_or_default() };
    (known.iter().map(verdict).collect(), told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(last: usize, every: u64, best: Option<(&str, Direction, usize)>) -> Retention {
        Retention {
            last: NonZeroUsize::new(last).unwrap(),
            every: NonZeroU64::new(every),
            best: best.map(|(metric, direction, count)| Best {
                metric: metric.to_owned(),
                direction,
                count: NonZeroUsize::new(count).unwrap(),
            }),
        }
    }

    fn known(step: u64, loss: Option<f64>, health: Health) -> Known {
        let metrics = loss.map(|loss| ("loss".to_owned(), Metric(loss))).into_iter().collect();
        Known { id: StepId { step, generation: 1 }, metrics, health }
    }

    fn kept(rules: &Retention, known: &[Known]) -> (Vec<u64>, Vec<String>) {
        let (verdicts, told) = decide(rules, known);
        (verdicts.into_iter().filter(|v| !v.keep.is_empty()).map(|v| v.id.step).collect(), told)
    }

    #[test]
    fn last_every_and_best_each_keep_theirs() {
        let all: Vec<Known> =
            (1..=10).map(|step| known(step, Some((step as f64 - 4.0).abs()), Health::Whole)).collect();
        assert_eq!(kept(&rules(2, 0, None), &all).0, [9, 10]);
        assert_eq!(kept(&rules(1, 5, None), &all).0, [5, 10]);
        assert_eq!(kept(&rules(1, 0, Some(("loss", Direction::Min, 2))), &all).0, [4, 5, 10]);
        assert_eq!(kept(&rules(1, 0, Some(("loss", Direction::Max, 1))), &all).0, [10]);
    }

    #[test]
    fn a_loss_that_became_nan_is_never_the_best_and_somebody_is_told() {
        let all = [
            known(1, Some(0.5), Health::Whole),
            known(2, Some(f64::NAN), Health::Whole),
            known(3, None, Health::Whole),
        ];
        for direction in [Direction::Min, Direction::Max] {
            let (kept, told) = kept(&rules(1, 0, Some(("loss", direction, 1))), &all);
            assert_eq!(kept, [1, 3]);
            insta::allow_duplicates! {
                insta::assert_snapshot!(told.join("\n"), @r"
                step-000000000003-g00000001 has no metric `loss`, so it is never the best
                step-000000000002-g00000001: `loss` is NaN, which is never the best
                ");
            }
        }
    }

    #[test]
    fn the_last_good_one_stays_though_newer_ones_are_there_but_damaged() {
        let bad = || Health::Damaged("cut off".to_owned());
        let all = [known(1, None, Health::Whole), known(2, None, bad()), known(3, None, bad())];
        assert_eq!(kept(&rules(1, 0, None), &all).0, [1, 2, 3]);
        let next = [&all[..], &[known(4, None, Health::Whole)]].concat();
        assert_eq!(kept(&rules(1, 0, None), &next).0, [4]);
        let none_whole = [known(1, None, Health::Unknown), known(2, None, bad())];
        assert_eq!(kept(&rules(1, 0, None), &none_whole).0, [1, 2], "without a whole one nothing goes");
    }

    proptest! {
        #[test]
        fn whatever_the_rules_the_newest_whole_one_stays(
            list in prop::collection::btree_map(0_u64..50, (0_u8..3, prop::option::of(any::<f64>())), 0..20),
            last in 1_usize..5, every in 0_u64..6, best in 1_usize..4, max in any::<bool>(),
        ) {
            let health = |kind| match kind { 0 => Health::Whole, 1 => Health::Unknown, _ => Health::Damaged(String::new()) };
            let all: Vec<Known> = list.into_iter().map(|(step, (kind, loss))| known(step, loss, health(kind))).collect();
            let direction = if max { Direction::Max } else { Direction::Min };
            let (kept, _) = kept(&rules(last, every, Some(("loss", direction, best))), &all);
            match all.iter().filter(|one| one.health == Health::Whole).map(|one| one.id.step).max() {
                Some(newest) => prop_assert!(kept.contains(&newest)),
                None => prop_assert_eq!(kept.len(), all.len()),
            }
        }
    }
}
