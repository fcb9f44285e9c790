//! Boxes of row-major tensors: which bytes of which shard make up a slice of the whole. Pure arithmetic.

use serde::{Deserialize, Serialize};

use crate::dtype::{DType, elements};

/// A box of a tensor: where it begins and how far it reaches, in elements along each axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Region {
    /// The first element along each axis.
    pub offset: Vec<u64>,
    /// Elements along each axis.
    pub shape: Vec<u64>,
}

impl Region {
    /// All of a tensor of this shape.
    #[must_use]
    pub fn whole(shape: &[u64]) -> Self {
        Self { offset: vec![0; shape.len()], shape: shape.to_vec() }
    }

    /// `length` elements from `start` along one axis, and everything along the others; `None` where the tensor has no
    /// such axis.
    #[must_use]
    pub fn along(shape: &[u64], axis: usize, start: u64, length: u64) -> Option<Self> {
        let mut region = Self::whole(shape);
        *region.offset.get_mut(axis)? = start;
        *region.shape.get_mut(axis)? = length;
        Some(region)
    }

    /// Whether it lies within a tensor of this shape.
    #[must_use]
    pub fn fits(&self, shape: &[u64]) -> bool {
        self.offset.len() == shape.len()
            && self.shape.len() == shape.len()
            && self
                .offset
                .iter()
                .zip(&self.shape)
                .zip(shape)
                .all(|((offset, length), side)| offset.checked_add(*length).is_some_and(|end| end <= *side))
    }

    /// Elements in it. Only for a region that fits into a tensor whose elements can be counted.
    #[must_use]
    pub fn elements(&self) -> u64 {
        elements(&self.shape).unwrap_or(0)
    }

    /// What both have; `None` where that is nothing. A scalar meets a scalar.
    #[must_use]
    pub fn meets(&self, other: &Self) -> Option<Self> {
        let (mut offset, mut shape) = (Vec::new(), Vec::new());
        for axis in 0..self.shape.len() {
            let start = self.offset[axis].max(other.offset[axis]);
            let end = (self.offset[axis] + self.shape[axis]).min(other.offset[axis] + other.shape[axis]);
            if start >= end {
                return None;
            }
            offset.push(start);
            shape.push(end - start);
        }
        Some(Self { offset, shape })
    }
}

/// Cuts a tensor into boxes of at most so many bytes, one after the other in its row-major bytes.
pub(crate) fn portions(region: &Region, dtype: DType, most: u64) -> Vec<Region> {
    let axis = region.shape.iter().position(|side| *side > 1);
    let bytes = dtype.bytes(&region.shape).unwrap_or(0);
    // Types of less than a byte are not cut: a box would begin within one.
    let Some(axis) = axis.filter(|_| bytes > most && dtype.bits() >= 8) else { return vec![region.clone()] };
    let row = bytes / region.shape[axis];
    let step = (most / row).max(1);
    let end = region.offset[axis] + region.shape[axis];
    let starts = (region.offset[axis]..end).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    starts
        .flat_map(|start| {
            let mut part = region.clone();
            part.offset[axis] = start;
            part.shape[axis] = step.min(end - start);
            portions(&part, dtype, most)
        })
        .collect()
}

/// The contiguous runs by which a box is copied from one row-major block to another. Runs are in rising order in both.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    /// Sides of the box along the axes that are stepped through, the outermost first.
    outer: Vec<u64>,
    /// Bytes from one step to the next along those axes, in the source and in the destination.
    steps: Vec<(u64, u64)>,
    first: (u64, u64),
    /// How many runs.
    pub(crate) count: u64,
    /// Bytes of each.
    pub(crate) length: u64,
}

impl Runs {
    /// The runs that copy `part` (in coordinates of the whole tensor) from a block that holds `source` to one that
    /// holds `target`; `None` when a run would begin or end within a byte (types of less than 8 bits).
    pub(crate) fn new(part: &Region, source: &Region, target: &Region, dtype: DType) -> Option<Self> {
        let axes = part.shape.len();
        // Axes from `inner` on are one run: all but the first of them are whole in both blocks.
        let mut inner = axes;
        let mut run = 1;
        while inner > 0 {
            inner -= 1;
            run *= part.shape[inner];
            if part.shape[inner] != source.shape[inner] || part.shape[inner] != target.shape[inner] {
                break;
            }
        }
        let bytes = |count: u64| {
            let bits = count * dtype.bits();
            bits.is_multiple_of(8).then_some(bits / 8)
        };
        let strides = |block: &Region| {
            let mut strides = vec![1; axes];
            for axis in (1..axes).rev() {
                strides[axis - 1] = strides[axis] * block.shape[axis];
            }
            strides
        };
        let (from, to) = (strides(source), strides(target));
        let first = |block: &Region, strides: &[u64]| -> u64 {
            (0..axes).map(|axis| (part.offset[axis] - block.offset[axis]) * strides[axis]).sum()
        };
        let mut steps = Vec::with_capacity(inner);
        for axis in 0..inner {
            steps.push((bytes(from[axis])?, bytes(to[axis])?));
        }
        Some(Self {
            count: part.shape[..inner].iter().product(),
            outer: part.shape[..inner].to_vec(),
            steps,
            first: (bytes(first(source, &from))?, bytes(first(target, &to))?),
            length: bytes(run)?,
        })
    }

    /// Where run `index` begins, in bytes of the source and of the destination.
    pub(crate) fn at(&self, mut index: u64) -> (u64, u64) {
        let (mut from, mut to) = self.first;
        for (side, (source, target)) in self.outer.iter().zip(&self.steps).rev() {
            from += index % side * source;
            to += index % side * target;
            index /= side;
        }
        (from, to)
    }

    /// The first run that ends after this byte of the source; `count` when none does.
    pub(crate) fn after(&self, byte: u64) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle).0 + self.length > byte { high = middle } else { low = middle + 1 }
        }
        low
    }
}

/// Pairs that are compared at most: what is more tangled than any real mesh of shards is refused.
const MOST_COMPARED: u64 = 50_000_000;

/// Whether boxes cover a tensor of this shape exactly once. Boxes that are wholly the same are copies of one another and
/// count once. Gives what is wrong as half a sentence.
pub(crate) fn covers(shape: &[u64], boxes: &[&Region]) -> Result<(), String> {
    let mut boxes: Vec<&Region> = boxes.iter().copied().filter(|region| region.elements() > 0).collect();
    boxes.sort_unstable();
    boxes.dedup();
    if let Some(outside) = boxes.iter().find(|region| !region.fits(shape)) {
        return Err(format!("a shard at {:?} of shape {:?} is outside of {shape:?}", outside.offset, outside.shape));
    }
    // Along the axis that parts them best, only neighbours can meet.
    let parted = |axis: &usize| {
        let mut starts: Vec<u64> = boxes.iter().map(|region| region.offset[*axis]).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.len()
    };
    if let Some(axis) = (0..shape.len()).max_by_key(parted) {
        boxes.sort_by_key(|region| region.offset[axis]);
        let mut compared = 0_u64;
        for (index, region) in boxes.iter().enumerate() {
            let end = region.offset[axis] + region.shape[axis];
            for other in boxes[index + 1..].iter().take_while(|other| other.offset[axis] < end) {
                compared += 1;
                if compared > MOST_COMPARED {
                    return Err(format!("{} shards are too tangled to be compared", boxes.len()));
                }
                if let Some(both) = region.meets(other) {
                    return Err(format!("two different shards both hold {:?} at {:?}", both.shape, both.offset));
                }
            }
        }
    }
    let held: u64 = boxes.iter().map(|region| region.elements()).sum();
    let all = elements(shape).unwrap_or(0);
    if held == all { Ok(()) } else { Err(format!("its shards hold {held} of its {all} elements")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the arithmetic is held against: element by element.
    fn copied(shape: &[u64], shard: &Region, want: &Region) -> Vec<(u64, u64)> {
        let index = |block: &Region, at: &[u64]| {
            at.iter().enumerate().fold(0, |sum, (axis, x)| sum * block.shape[axis] + (x - block.offset[axis]))
        };
        let within = |block: &Region, at: &[u64]| {
            at.iter().enumerate().all(|(a, x)| *x >= block.offset[a] && *x < block.offset[a] + block.shape[a])
        };
        let mut pairs = Vec::new();
        for flat in 0..shape.iter().product::<u64>() {
            let (mut rest, mut at) = (flat, vec![0; shape.len()]);
            for axis in (0..shape.len()).rev() {
                at[axis] = rest % shape[axis];
                rest /= shape[axis];
            }
            if within(shard, &at) && within(want, &at) {
                pairs.push((index(shard, &at), index(want, &at)));
            }
        }
        pairs
    }

    fn tensor_and_boxes() -> impl Strategy<Value = (Vec<u64>, Region, Region)> {
        let region = |shape: Vec<u64>| {
            shape
                .into_iter()
                .map(|side| (0..side).prop_flat_map(move |at| (Just(at), 1..=side - at)))
                .collect::<Vec<_>>()
                .prop_map(|pairs| {
                    let (offset, shape) = pairs.into_iter().unzip();
                    Region { offset, shape }
                })
        };
        prop::collection::vec(1_u64..6, 0..4)
            .prop_flat_map(move |shape| (Just(shape.clone()), region(shape.clone()), region(shape)))
    }

    proptest! {
        #[test]
        fn runs_copy_what_an_element_by_element_copy_would((shape, shard, want) in tensor_and_boxes()) {
            let mut found = Vec::new();
            if let Some(part) = shard.meets(&want) {
                let runs = Runs::new(&part, &shard, &want, DType::U8).unwrap();
                for index in 0..runs.count {
                    let (from, to) = runs.at(index);
                    found.extend((0..runs.length).map(|byte| (from + byte, to + byte)));
                    prop_assert_eq!(runs.after(from), index);
                    prop_assert_eq!(runs.after(from + runs.length), index + 1);
                }
            }
            prop_assert_eq!(found, copied(&shape, &shard, &want));
        }

        #[test]
        fn portions_one_behind_the_other_are_the_tensor((shape, ..) in tensor_and_boxes(), most in 1_u64..40) {
            let whole = Region::whole(&shape);
            let mut next = 0;
            for part in portions(&whole, DType::U16, most) {
                let runs = Runs::new(&part, &whole, &part, DType::U16).unwrap();
                prop_assert!(runs.count == 1 && (runs.length <= most.max(2)), "{part:?}");
                prop_assert_eq!(runs.at(0), (next, 0));
                next += runs.length;
            }
            prop_assert_eq!(next, whole.elements() * 2);
        }

        #[test]
        fn a_tensor_cut_anywhere_is_covered_and_one_piece_less_is_not((shape, cut, _) in tensor_and_boxes()) {
            // Cuts along every axis at the borders of a box.
            let mut pieces = vec![Region::whole(&shape)];
            for axis in 0..shape.len() {
                for at in [cut.offset[axis], cut.offset[axis] + cut.shape[axis]] {
                    pieces = pieces.into_iter().flat_map(|piece| {
                        let (start, end) = (piece.offset[axis], piece.offset[axis] + piece.shape[axis]);
                        if at <= start || at >= end { return vec![piece]; }
                        let (mut low, mut high) = (piece.clone(), piece);
                        low.shape[axis] = at - start;
                        (high.offset[axis], high.shape[axis]) = (at, end - at);
                        vec![low, high]
                    }).collect();
                }
            }
            let mut all: Vec<&Region> = pieces.iter().collect();
            prop_assert_eq!(covers(&shape, &all), Ok(()));
            let copy = all[0];
            all.push(copy);
            prop_assert_eq!(covers(&shape, &all), Ok(()), "copies count once");
            all.retain(|piece| *piece != copy);
            prop_assert!(covers(&shape, &all).is_err());
        }
    }

    #[test]
    fn shards_that_overlap_are_told_though_their_sum_is_right() {
        let at = |offset: u64, length: u64| Region { offset: vec![offset], shape: vec![length] };
        let (a, b) = (at(0, 3), at(2, 1));
        assert_eq!(
            covers(&[4], &[&a, &b]),
            Err("two different shards both hold [1] at [2]".to_owned()),
            "3 + 1 = 4, yet element 2 is there twice and 3 never"
        );
    }

    #[test]
    fn a_slice_of_half_bytes_begins_on_a_byte_or_not_at_all() {
        let whole = Region::whole(&[4, 4]);
        let runs = |axis, start, length| {
            let want = Region::along(&[4, 4], axis, start, length).unwrap();
            Runs::new(&want, &whole, &want, DType::F4).map(|runs| (runs.count, runs.length))
        };
        assert_eq!(runs(0, 1, 2), Some((1, 4)));
        assert_eq!(runs(1, 2, 2), Some((4, 1)));
        assert_eq!(runs(1, 1, 2), None);
        assert_eq!(runs(1, 0, 1), None);
    }

    #[test]
    fn a_mesh_of_many_thousand_shards_is_checked_quickly() {
        let mesh: Vec<Region> =
            (0..128 * 128).map(|i| Region { offset: vec![i / 128 * 8, i % 128 * 8], shape: vec![8, 8] }).collect();
        assert_eq!(covers(&[1024, 1024], &mesh.iter().collect::<Vec<_>>()), Ok(()));
    }
}
