//! Other tools read our files: the reference reader, in Rust and in Python.

use std::path::PathBuf;
use std::process::Command;

use safetensors::SafeTensors;

use bedplate_checkpoint::{DType, Data, Depth, Global, State, Tensor};

use crate::{Model, SMALL, folder, id, info, one, save, take_over, told};

/// The data files of a step, in the order in which later ones replace what is in earlier ones.
fn data_files(folder: &tempfile::TempDir, step: u64) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join("run").join(id(step, 1).to_string())).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".safetensors") && !path.to_string_lossy().contains("blobs"));
    files.sort();
    files
}

#[test]
fn the_reference_reader_reads_a_checkpoint_file_by_file() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    for step in 1..=3 {
        save(&mut writer, step).unwrap();
    }
    let files = data_files(&folder, 3);
    assert_eq!(files.len(), 2, "one with what is as it was, one with what has changed");
    let mut found = std::collections::BTreeMap::new();
    for path in files {
        let bytes = std::fs::read(path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            let shape: Vec<u64> = view.shape().iter().map(|side| *side as u64).collect();
            found.insert(name.to_owned(), (view.dtype().to_string(), shape, view.data().to_vec()));
        }
    }
    let wanted = Model::at(3, 0, SMALL);
    assert_eq!(found.len(), wanted.tensors.len());
    for (name, dtype, shape, data) in wanted.tensors {
        assert_eq!(found[name], (dtype.name().to_owned(), shape, data), "{name}");
    }
}

#[test]
fn python_reads_our_files() {
    let python = std::env::var("BEDPLATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ready = Command::new(&python).args(["-c", "import numpy, safetensors.numpy"]).output();
    if !ready.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `{python}` has no numpy and safetensors (`pip install numpy safetensors`)");
        return;
    }
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    save(&mut writer, 1).unwrap();
    let script = "import sys, safetensors\n\
        with safetensors.safe_open(sys.argv[1], 'numpy') as file:\n\
        \x20   for name in sorted(file.keys()):\n\
        \x20       part = file.get_slice(name)\n\
        \x20       print(name, part.get_dtype(), part.get_shape())\n\
        \x20   print(file.get_tensor('step'), file.get_tensor('base.weight').tobytes()[:8].hex())\n";
    let output = Command::new(python).args(["-c", script]).arg(&data_files(&folder, 1)[0]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let model = Model::at(1, 0, SMALL);
    let first: String = model.tensors[0].3[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = format!(
        "adapter BF16 [3, 2, 100]\nbase.weight F32 [2, 512]\nempty F16 [0, 4]\nslow U8 [2, 333]\nstep I64 []\n1 {first}\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
}

#[test]
fn an_export_is_one_file_with_every_tensor_whole() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let whole: Vec<u8> = (0..96).collect();
    let save = one(1, 2);
    for rank in 0..2_u32 {
        let at = rank as usize * 48;
        let global = Some(Global { shape: vec![4, 24], offset: vec![u64::from(rank) * 2, 0] });
        let shard =
            Tensor { name: "w", dtype: DType::U8, shape: vec![2, 24], global, data: Data::There(&whole[at..at + 48]) };
        let seed = [7 + rank as u8];
        let own = Tensor { name: "seed", dtype: DType::U8, shape: vec![], global: None, data: Data::There(&seed) };
        let blobs = vec![("rng", &b"x"[..])];
        writer.save_part(save, rank, &State { tensors: vec![shard, own], blobs, ..State::default() }).unwrap();
    }
    writer.publish(save, 0, &info(1), Depth::Data).unwrap();
    let checkpoint = store.checkpoint(id(1, 1)).unwrap();
    let path = folder.path().join("one.safetensors");
    let exported = checkpoint.export(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((exported.tensors, exported.bytes, exported.blobs_left_out), (3, bytes.len() as u64, 2));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!((file.tensor("w").unwrap().shape(), file.tensor("w").unwrap().data()), (&[4, 24][..], &*whole));
    assert_eq!(file.tensor("seed@rank-0").unwrap().data(), [7]);
    assert_eq!(file.tensor("seed@rank-1").unwrap().data(), [8]);

    let error = checkpoint.export(&path).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"/one.safetensors is there already, and stays: give another name");
    assert!(checkpoint.export(&folder.path().join("no/one.safetensors")).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no half of a file is left");
}

#[test]
fn what_is_the_same_in_two_checkpoints_is_known_however_it_was_saved() {
    let (_folder, store) = folder();
    let whole: Vec<u8> = (0..100_u8).collect();
    let mut other = whole.clone();
    other[99] = 0;
    // As one tensor after a short one, as two shards, and with another last byte.
    let mut writer = take_over(&store);
    for (step, world_size, data) in [(1, 1, &whole), (2, 2, &whole), (3, 1, &other), (4, 1, &other)] {
        let save = one(step, world_size);
        for rank in 0..world_size {
            let rows = 10 / u64::from(world_size);
            let at = u64::from(rank) * rows;
            let global = Some(Global { shape: vec![10, 10], offset: vec![at, 0] });
            let data = &data[at as usize * 10..(at + rows) as usize * 10];
            let tensor = Tensor { name: "w", dtype: DType::U8, shape: vec![rows, 10], global, data: Data::There(data) };
            writer.save_part(save, rank, &State { tensors: vec![tensor], ..State::default() }).unwrap();
        }
        writer.publish(save, 0, &info(step), Depth::Data).unwrap();
    }
    let is_same = |a, b| {
        let [a, b] = [a, b].map(|step| store.checkpoint(id(step, 1)).unwrap());
        a.is_same(&b, "w", None).unwrap()
    };
    assert!(is_same(1, 2) && is_same(3, 4));
    assert!(!is_same(1, 3) && !is_same(2, 3));
}

#[test]
fn the_reader_in_the_description_of_the_format_reads_shards_and_scalars() {
    let text = include_str!("../../../../docs/checkpoint-format.md");
    let script = text.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let value = |at: u64| (at as u32).to_le_bytes();
    let matrix = |rows: std::ops::Range<u64>, columns: std::ops::Range<u64>| -> Vec<u8> {
        rows.flat_map(|row| columns.clone().flat_map(move |column| value(row * 9 + column))).collect()
    };
    for step in [1, 2] {
        let save = one(step, 2);
        for (rank, columns) in [(0, 0..4), (1, 4..9)] {
            let global = Some(Global { shape: vec![5, 9], offset: vec![0, columns.start] });
            let (shape, data) = (vec![5, columns.end - columns.start], matrix(0..5, columns));
            let shard = Tensor { name: "w", dtype: DType::U32, shape, global, data: Data::There(&data) };
            let number = step.to_le_bytes();
            let scalar =
                Tensor { name: "step", dtype: DType::I64, shape: vec![], global: None, data: Data::There(&number) };
            let tensors = if rank == 0 { vec![shard, scalar] } else { vec![shard] };
            writer.save_part(save, rank, &State { tensors, ..State::default() }).unwrap();
        }
        writer.publish(save, 0, &info(step), Depth::Data).unwrap();
    }
    for (name, wanted) in [("w", matrix(0..5, 0..9)), ("step", 2_u64.to_le_bytes().to_vec())] {
        let Ok(output) = Command::new("python3").args(["-c", script]).arg(folder.path().join("run")).arg(name).output()
        else {
            eprintln!("skipped: there is no `python3`");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, wanted, "{name}");
    }
}
