//! Other tools read our files: the reference reader, in Rust and in Python.

use std::path::PathBuf;
use std::process::Command;

use safetensors::SafeTensors;

use crate::{Model, SMALL, folder, id, save, take_over};

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
    assert_eq!(found.len(), wanted.state().tensors.len());
    for tensor in wanted.state().tensors {
        assert_eq!(
            found[tensor.name],
            (tensor.dtype.name().to_owned(), tensor.shape, tensor.data.to_vec()),
            "{}",
            tensor.name
        );
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
    let first: String = model.state().tensors[0].data[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = format!(
        "adapter BF16 [3, 2, 100]\nbase.weight F32 [2, 512]\nempty F16 [0, 4]\nslow U8 [2, 333]\nstep I64 []\n1 {first}\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
}
