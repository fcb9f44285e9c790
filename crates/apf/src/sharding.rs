//! Which queues a flow may use: shuffle sharding (`pkg/util/shufflesharding/shufflesharding.go`).

use sha2::{Digest, Sha256};

/// The hash of a flow: of a schema's name and what tells its flows apart (`hashFlowID`, `apf_filter.go`).
#[must_use]
pub fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(schema.as_bytes());
    hash.update([0]);
    hash.update(distinguisher.as_bytes());
    let hash = hash.finalize();
    hash.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A hand of cards from a deck: `hand_size` different places below `deck_size`, drawn by `hash`. Both are as the server
/// takes them: `1 <= hand_size <= deck_size`, and at most 60 bits of the hash are used.
#[must_use]
pub fn deal(mut hash: u64, deck_size: u32, hand_size: u32) -> Vec<usize> {
    let mut remainders = Vec::with_capacity(hand_size as usize);
    for dealt in 0..hand_size.min(deck_size) {
        let left = u64::from(deck_size - dealt);
        remainders.push((hash % left) as usize);
        hash /= left;
    }
    (0..remainders.len())
        .map(|i| remainders[..i].iter().rev().fold(remainders[i], |card, before| card + usize::from(card >= *before)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Worked out by hand: the lowest and the highest hash deal the first and the last hand.
    #[test]
    fn the_first_and_the_last_hand() {
        assert_eq!(deal(0, 128, 4), [0, 1, 2, 3]);
        assert_eq!(deal(128 * 127 * 126 * 125 - 1, 128, 4), [127, 126, 125, 124]);
        assert_eq!(deal(1, 2, 1), [1]);
    }

    proptest! {
        #[test]
        fn a_hand_has_different_cards_of_the_deck(hash in any::<u64>(), deck in 1_u32..1000, hand in 1_u32..10) {
            let hand = hand.min(deck);
            let mut cards = deal(hash, deck, hand);
            prop_assert_eq!(cards.len(), hand as usize);
            prop_assert!(cards.iter().all(|card| *card < deck as usize));
            cards.sort_unstable();
            cards.dedup();
            prop_assert_eq!(cards.len(), hand as usize);
        }
    }
}
