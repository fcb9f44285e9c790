//! Ranks save together; others read what they need, whatever the ranks were.

use bedplate_checkpoint::{DType, Data, Depth, Error, Global, Publication, Region, Save, State, Store, Tensor};
use proptest::prelude::*;

use crate::{Model, SMALL, folder, folder_in_memory, id, info, one, resumed, take_over, told};

/// A tensor of two axes with numbers that tell their place.
struct Matrix {
    rows: u64,
    columns: u64,
}

impl Matrix {
    fn bytes(&self, region: &Region) -> Vec<u8> {
        let rows = region.offset[0]..region.offset[0] + region.shape[0];
        rows.flat_map(|row| {
            let columns = region.offset[1]..region.offset[1] + region.shape[1];
            columns.flat_map(move |column| ((row * self.columns + column) as u32).to_le_bytes())
        })
        .collect()
    }

    fn save(&self, store: &Store, regions: &[Region]) -> Result<Publication, Error> {
        let mut writer = take_over(store);
        let save = one(1, regions.len() as u32);
        for (rank, region) in (0..).zip(regions) {
            let data = self.bytes(region);
            let global = Some(Global { shape: vec![self.rows, self.columns], offset: region.offset.clone() });
            let tensor =
                Tensor { name: "m", dtype: DType::U32, shape: region.shape.clone(), global, data: Data::There(&data) };
            writer.save_part(save, rank, &State { tensors: vec![tensor], ..State::default() })?;
        }
        writer.publish(save, 0, &info(1), Depth::Data)
    }
}

fn region(row: u64, column: u64, rows: u64, columns: u64) -> Region {
    Region { offset: vec![row, column], shape: vec![rows, columns] }
}

/// Cuts a side at these places.
fn cut(side: u64, at: &[u64]) -> Vec<(u64, u64)> {
    let mut at: Vec<u64> = at.iter().map(|at| at % (side + 1)).chain([0, side]).collect();
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_slice_of_any_mesh_is_exactly_its_bytes(
        rows in 1_u64..40, columns in 1_u64..40,
        at in prop::collection::vec(0_u64..40, 0..3), across in prop::collection::vec(0_u64..40, 0..3),
        wants in prop::collection::vec((0_u64..40, 0_u64..40, 0_u64..40, 0_u64..40), 6),
    ) {
        let matrix = Matrix { rows, columns };
        let mut regions = Vec::new();
        for (row, height) in cut(rows, &at) {
            regions.extend(cut(columns, &across).into_iter().map(|(column, width)| region(row, column, height, width)));
        }
        let (_folder, store) = folder_in_memory();
        matrix.save(&store, &regions).unwrap();
        let checkpoint = store.checkpoint(id(1, 1)).unwrap();
        let tensors = checkpoint.tensors();
        prop_assert_eq!((tensors.len(), tensors[0].shards, tensors[0].shape), (1, regions.len(), &[rows, columns][..]));
        prop_assert_eq!(checkpoint.tensor("m").unwrap(), matrix.bytes(&region(0, 0, rows, columns)));
        for (row, column, height, width) in wants {
            let (row, column) = (row % rows, column % columns);
            let want = region(row, column, height.min(rows - row), width.min(columns - column));
            prop_assert_eq!(checkpoint.slice("m", None, Some(want.clone())).unwrap(), matrix.bytes(&want));
        }
    }
}

#[test]
fn large_shards_are_read_across_by_several_threads() {
    let matrix = Matrix { rows: 3000, columns: 3000 };
    let (_folder, store) = folder();
    let regions = [region(0, 0, 3000, 1700), region(0, 1700, 1000, 1300), region(1000, 1700, 2000, 1300)];
    matrix.save(&store, &regions).unwrap();
    let checkpoint = store.checkpoint(id(1, 1)).unwrap();
    for want in [region(0, 0, 3000, 3000), region(500, 1699, 1500, 2), region(999, 0, 2, 3000)] {
        assert!(checkpoint.slice("m", None, Some(want.clone())).unwrap() == matrix.bytes(&want), "{want:?}");
    }
}

#[test]
fn a_tensor_with_a_hole_or_two_owners_is_not_published() {
    let matrix = Matrix { rows: 4, columns: 4 };
    let refused = |regions: &[Region]| {
        let (folder, store) = folder();
        let error = matrix.save(&store, regions).unwrap_err();
        assert_eq!(store.steps().unwrap(), []);
        told(&error, &folder)
    };
    let errors = [
        refused(&[region(0, 0, 2, 4), region(2, 0, 2, 3)]),
        refused(&[region(0, 0, 3, 4), region(2, 0, 2, 4)]),
        refused(&[region(0, 0, 2, 4), region(2, 1, 2, 4)]),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r"
    `m`: its shards hold 14 of its 16 elements
    `m`: two different shards both hold [1, 4] at [2, 0]
    the shard of `m` at [2, 1] is outside of [4, 4]
    ");
    // The same shard on two ranks is a copy, as in data parallel training.
    let (_folder, store) = folder();
    matrix.save(&store, &[region(0, 0, 4, 4), region(0, 0, 4, 4)]).unwrap();
    assert_eq!(store.checkpoint(id(1, 1)).unwrap().tensor("m").unwrap(), matrix.bytes(&region(0, 0, 4, 4)));
}

#[test]
fn what_is_each_ranks_own_is_asked_for_by_rank() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let save = one(1, 2);
    for rank in 0..2 {
        writer.save_part(save, rank, &Model::at(1, rank, SMALL).state()).unwrap();
    }
    writer.publish(save, 0, &info(1), Depth::Data).unwrap();
    assert_eq!(resumed(&store, 2).unwrap().0, Some(1));
    let error = store.checkpoint(id(1, 1)).unwrap().tensor("adapter").unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"/run/step-000000000001-g00000001 cannot give the tensor `adapter`: 2 ranks each have one of their own: name a rank");
}

#[test]
fn a_rank_that_dies_in_the_middle_leaves_the_checkpoint_before_it_whole() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    for (step, ranks) in [(1, 0..3), (2, 0..2)] {
        for rank in ranks {
            writer.save_part(one(step, 3), rank, &Model::at(step, rank, SMALL).state()).unwrap();
        }
        let publication = writer.publish(one(step, 3), 0, &info(step), Depth::Data).unwrap();
        // Rank 2 never came.
        assert_eq!(publication == Publication::Waiting(vec![2]), step == 2);
    }
    assert_eq!(resumed(&store, 3).unwrap(), (Some(1), vec![]));

    // The job starts again with fewer ranks, and comes past the same step.
    let mut writer = take_over(&store);
    for rank in 0..2 {
        writer.save_part(one(2, 2), rank, &Model::at(2, rank, SMALL).state()).unwrap();
    }
    writer.publish(one(2, 2), 1, &info(2), Depth::Data).unwrap();
    assert_eq!(resumed(&store, 2).unwrap(), (Some(2), vec![]));
    let names = std::fs::read_dir(folder.path().join("run")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("tmp")));
}

#[test]
fn parts_of_two_attempts_are_never_mixed() {
    let (folder, store) = folder();
    let mut first = take_over(&store);
    let mut second = store.join("run", first.generation()).unwrap();
    first.save_part(one(1, 2), 0, &Model::at(9, 0, SMALL).state()).unwrap();
    // Rank 1 could not, and gives up for all.
    second.give_up(one(1, 2)).unwrap();
    let error = first.publish(one(1, 2), 0, &info(1), Depth::Structure).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"the save of step 1 in /run was given up by another rank, or swept away: save again with the next attempt number");
    let again = Save { attempt: 1, ..one(1, 2) };
    second.save_part(again, 1, &Model::at(1, 1, SMALL).state()).unwrap();
    assert_eq!(second.publish(again, 1, &info(1), Depth::Data).unwrap(), Publication::Waiting(vec![0]));
    first.save_part(again, 0, &Model::at(1, 0, SMALL).state()).unwrap();
    first.publish(again, 0, &info(1), Depth::Data).unwrap();
    assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![]));
}

#[test]
fn a_rank_that_starts_again_in_the_middle_takes_the_next_attempt() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let state = |rank| Model::at(1, rank, SMALL);
    writer.save_part(one(1, 2), 0, &state(0).state()).unwrap();
    writer.save_part(one(1, 2), 1, &state(1).state()).unwrap();
    let error = writer.save_part(one(1, 2), 1, &state(1).state()).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"rank 1 has begun to save step 1 with attempt number 0 before: take the next number");
    // What was there is as it was.
    writer.publish(one(1, 2), 0, &info(1), Depth::Data).unwrap();
    assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![]));
}

#[test]
fn ranks_that_all_try_to_publish_all_learn_that_it_is_published() {
    let (_folder, store) = folder();
    let generation = take_over(&store).generation();
    for step in 1..=20 {
        let published = std::thread::scope(|scope| {
            let ranks: Vec<_> = (0..4)
                .map(|rank| {
                    let store = store.clone();
                    scope.spawn(move || {
                        let mut writer = store.join("run", generation).unwrap();
                        let save = one(step, 4);
                        writer.save_part(save, rank, &Model::at(step, rank, SMALL).state()).unwrap();
                        writer.publish(save, rank, &info(step), Depth::Data).unwrap()
                    })
                })
                .collect();
            ranks
                .into_iter()
                .map(|rank| rank.join().unwrap())
                .filter(|p| *p == Publication::Published(id(step, 1)))
                .count()
        });
        assert!(published >= 1, "whoever saves last publishes");
        assert_eq!(resumed(&store, 4).unwrap(), (Some(step), vec![]));
    }
}

/// A rank left a tensor to another, which did not have it: nobody saw that before the resume.
#[test]
fn a_step_on_which_ranks_do_not_agree_is_not_published() {
    let (_folder, store) = folder_in_memory();
    let mut writer = take_over(&store);
    for (step, agreed) in [(1, [Some("a"), Some("a")]), (2, [Some("a"), Some("b")]), (3, [Some("a"), None])] {
        let save = one(step, 2);
        for (rank, agreed) in (0..).zip(agreed) {
            let state = State { agreed: agreed.map(str::as_bytes), blobs: vec![("b", b"x")], ..State::default() };
            writer.save_part(save, rank, &state).unwrap();
        }
        let published = writer.publish(save, 0, &info(step), Depth::Structure);
        if agreed[0] == agreed[1] {
            assert_eq!(published.unwrap(), Publication::Published(id(step, 1)));
        } else {
            let said = published.unwrap_err().to_string();
            assert!(said.contains("the ranks 0 and 1 do not have alike what all ranks share"), "{said}");
        }
    }
    assert_eq!(store.steps().unwrap(), [id(1, 1)]);
}
