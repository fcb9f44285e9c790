//! Damage in every file: it is never loaded, the checkpoint before it is, and somebody is told why.

use std::fs;
use std::path::{Path, PathBuf};

use bedplate_checkpoint::{Depth, Error, Store};

use crate::{Model, SMALL, folder_in_memory, id, info, one, resumed, save, take_over, told};

/// Two ranks, steps 1 and 2, sharing no file; gives the files of step 2.
fn two_steps() -> (tempfile::TempDir, Store, Vec<PathBuf>) {
    let (folder, store) = folder_in_memory();
    for step in [1, 2] {
        let mut writer = take_over(&store);
        for rank in 0..2 {
            writer.save_part(one(step, 2), rank, &Model::at(step, rank, SMALL).state()).unwrap();
        }
        writer.publish(one(step, 2), 0, &info(step), Depth::Data).unwrap();
    }
    assert_eq!(resumed(&store, 2).unwrap(), (Some(2), vec![]));
    let files = fs::read_dir(folder.path().join("run").join(id(2, 2).to_string())).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 7);
    (folder, store, files)
}

/// Puts these bytes there for a while.
fn with(path: &Path, bytes: &[u8], act: impl FnOnce()) {
    let whole = fs::read(path).unwrap();
    fs::write(path, bytes).unwrap();
    act();
    fs::write(path, whole).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_is_never_loaded() {
    let (_folder, store, files) = two_steps();
    let mut random = fastrand::Rng::with_seed(5);
    let mut flips = 0;
    for path in &files {
        let whole = fs::read(path).unwrap();
        let json = path.extension().is_some_and(|end| end == "json");
        // Every byte of JSON, of the beginning and the end; and others as far apart as a short tensor is long.
        let step = if json { 1 } else { 61 };
        let ends = (0..80).chain(whole.len() - 8..whole.len());
        let mut places: Vec<usize> = (0..whole.len()).step_by(step).chain(ends).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << random.u32(0..8);
            with(path, &bytes, || {
                // `resumed` compares all that was loaded with what was saved.
                assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![2]), "byte {place} of {}", path.display());
                flips += 1;
            });
        }
    }
    assert!(flips > 2000, "only {flips} flips");
    assert_eq!(resumed(&store, 2).unwrap(), (Some(2), vec![]));
}

#[test]
fn a_file_that_was_cut_off_or_is_gone_or_longer_is_never_loaded() {
    let (_folder, store, files) = two_steps();
    for path in &files {
        let whole = fs::read(path).unwrap();
        for length in [0, 1, 8, 43, whole.len() / 2, whole.len() - 1] {
            with(path, &whole[..length], || assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![2])));
        }
        with(path, &[&whole[..], b" "].concat(), || assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![2])));
        fs::remove_file(path).unwrap();
        assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![2]), "{} is gone", path.display());
        // Already the structure shows it: no data has to be read.
        assert_eq!(store.resume(Depth::Structure).unwrap().found.unwrap().0.id(), id(1, 1));
        fs::write(path, whole).unwrap();
    }
}

#[test]
fn files_that_were_swapped_are_never_loaded() {
    let (folder, store, files) = two_steps();
    let before = folder.path().join("run").join(id(1, 1).to_string());
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().replace(&id(2, 2).to_string(), &id(1, 1).to_string());
        with(path, &fs::read(before.join(name)).unwrap(), || {
            assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![2]), "{}", path.display());
        });
    }
    for path in files.iter().filter(|path| path.to_string_lossy().contains("rank-00000")) {
        let other = path.to_string_lossy().replace("rank-00000", "rank-00001");
        with(path, &fs::read(other).unwrap(), || assert_eq!(resumed(&store, 2).unwrap(), (Some(1), vec![2])));
    }
}

#[test]
fn damage_beside_the_checkpoints_does_not_keep_a_run_from_going_on() {
    let (folder, store, _) = two_steps();
    let mut random = fastrand::Rng::with_seed(6);
    for name in ["store.json", "writers/00000002.json", "writers/00000001.json"] {
        let path = folder.path().join("run").join(name);
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << random.u32(0..8);
            with(&path, &bytes, || assert_eq!(resumed(&store, 2).unwrap(), (Some(2), vec![])));
        }
        with(&path, b"", || assert_eq!(resumed(&store, 2).unwrap(), (Some(2), vec![])));
        // A crash while it was made: the next writer makes it anew.
        fs::write(&path, b"").unwrap();
        save(&mut take_over(&store), 3).unwrap();
        let newest = store.steps().unwrap()[0];
        store.remove(newest).unwrap();
    }
    assert_eq!(store.run().unwrap().as_deref(), Some("run"));
}

#[test]
fn where_nothing_is_whole_nothing_is_begun_and_every_reason_is_told() {
    let (folder, store, files) = two_steps();
    let manifest = files.iter().find(|path| path.ends_with("manifest.json")).unwrap();
    fs::write(manifest, &fs::read(manifest).unwrap()[..100]).unwrap();
    let first = folder.path().join("run").join(id(1, 1).to_string());
    fs::remove_file(first.join("rank-00001.json")).unwrap();
    let error = resumed(&store, 2).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @r"
    none of the 2 checkpoints in /run can be resumed; starting anew would lose them, so nothing was started:
      step-000000000002-g00000002: /run/step-000000000002-g00000002/manifest.json is damaged: its checksum is not that of its contents
      step-000000000001-g00000001: cannot read /run/step-000000000001-g00000001/rank-00001.json: No such file or directory (os error 2)
    ");
}

/// Writes a JSON file of the store anew, with a checksum that fits: as a newer or a hostile program does.
fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let rest = change(&text[43..]);
    fs::write(
        path,
        format!("{}{}{}{rest}", &text[..9], bedplate_checkpoint::Digest::of(rest.as_bytes()), &text[41..43]),
    )
    .unwrap();
}

#[test]
fn a_newer_format_is_refused_rather_than_passed_over() {
    let (folder, store, files) = two_steps();
    let manifest = files.iter().find(|path| path.ends_with("manifest.json")).unwrap();
    rewrite(manifest, |text| {
        text.replace("\"version\":1", "\"version\":2").replace("\"body\":{", "\"body\":{\"shape\":[1],")
    });
    let error = resumed(&store, 2).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"/run/step-000000000002-g00000002/manifest.json has format version 2, this program reads up to 1: use the version of Bedplate that wrote it, or a newer one");
    assert!(matches!(store.prune(&crate::last(1), Depth::Data), Err(Error::Newer { .. })), "nor is anything removed");
}

#[test]
fn a_hostile_part_is_refused_before_it_costs_memory() {
    let (folder, store) = folder_in_memory();
    save(&mut take_over(&store), 1).unwrap();
    save(&mut take_over(&store), 2).unwrap();
    let of_two = folder.path().join("run").join(id(2, 2).to_string());
    let (part, manifest) = (of_two.join("rank-00000.json"), of_two.join("manifest.json"));
    let name = format!("{}.rank-00000.safetensors", id(2, 2));
    let shape = format!("\"shape\":[{SMALL},512]");
    let cases = [
        (name.clone(), "../../../../etc/passwd.safetensors".to_owned()),
        (name.clone(), "/etc/passwd.safetensors".to_owned()),
        (name, format!("{}.rank-00000.blobs.safetensors", id(2, 2))),
        (shape.clone(), "\"shape\":[4611686018427387904,512]".to_owned()),
        (shape.clone(), "\"shape\":[1000000000,512]".to_owned()),
        (shape, "\"shape\":[0,512]".to_owned()),
        ("\"block\":1048576".to_owned(), "\"block\":1".to_owned()),
        ("\"block\":1048576".to_owned(), "\"block\":9223372036854775808".to_owned()),
        ("\"header\":4096".to_owned(), "\"header\":0".to_owned()),
        ("\"start\":4096".to_owned(), "\"start\":18446744073709551615".to_owned()),
        ("\"start\":4096".to_owned(), "\"start\":4097".to_owned()),
        ("\"file\":0".to_owned(), "\"file\":9".to_owned()),
        ("\"world_size\":1".to_owned(), "\"world_size\":4000000000".to_owned()),
        ("\"rank\":0".to_owned(), "\"rank\":1".to_owned()),
        ("\"dtype\":\"BF16\"".to_owned(), "\"dtype\":\"F4\"".to_owned()),
    ];
    let mut reasons = Vec::new();
    for (from, to) in cases {
        let (old_part, old_manifest) = (fs::read(&part).unwrap(), fs::read(&manifest).unwrap());
        let text = String::from_utf8(old_part.clone()).unwrap();
        assert!(text.contains(&from), "{from} is not in {text}");
        rewrite(&part, |text| text.replacen(&from, &to, 1));
        let new = fs::read(&part).unwrap();
        let reference = |bytes: &[u8]| {
            format!("{{\"bytes\":{},\"xxh3\":\"{}\"}}", bytes.len(), bedplate_checkpoint::Digest::of(bytes))
        };
        rewrite(&manifest, |text| text.replace(&reference(&old_part), &reference(&new)));
        let resume = store.resume(Depth::Data).unwrap();
        assert_eq!(resume.found.unwrap().0.id(), id(1, 1), "{to}");
        reasons.push(
            resume.passed_over[0].reason.rsplit_once("damaged: ").unwrap().1.replace(&format!("{}.", id(2, 2)), ""),
        );
        fs::write(&part, old_part).unwrap();
        fs::write(&manifest, old_manifest).unwrap();
    }
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    "../../../../etc/passwd.safetensors" is no name of a data file
    "/etc/passwd.safetensors" is no name of a data file
    it lists a file twice
    `base.weight` has an impossible shape
    `base.weight` would have 2048000000000 bytes from 4096, rank-00000.safetensors has 10066
    `base.weight` has 1 checksums, 0 are needed
    rank-00000.safetensors cannot be cut into blocks of 1 bytes
    rank-00000.safetensors cannot be cut into blocks of 9223372036854775808 bytes
    rank-00000.safetensors cannot have 10066 bytes with a header of 0
    `base.weight` would have 4096 bytes from 18446744073709551615, rank-00000.safetensors has 10066
    `base.weight` and `step` share bytes
    `adapter` is in file 9, which is not listed
    there is no rank 0 of 4000000000
    there is no rank 1 of 1
    its header tells other things of `adapter` than the part
    "#);
    assert_eq!(resumed(&store, 1).unwrap(), (Some(2), vec![]));
}
