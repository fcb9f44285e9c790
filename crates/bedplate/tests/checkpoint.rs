//! `bedplate checkpoint` as its user meets it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

use bedplate_checkpoint::{DType, Data, Depth, Global, Info, Publication, Save, State, Store, Tensor};

/// A run of two ranks, with a loss that goes to NaN, and a save that was left behind.
struct Run(tempfile::TempDir);

impl Run {
    fn new() -> Self {
        let run = Self(tempfile::tempdir().unwrap());
        let mut writer = run.store().take_over("llama-7", "pod llama-0 (uid 1a2b)", 1_790_000_000).unwrap();
        for (step, loss) in [(100, 0.5), (200, 0.25), (300, f64::NAN)] {
            let save = Save { step, attempt: 0, world_size: 2 };
            for rank in 0..2_u64 {
                let embedding = vec![7; 4 * 64 * 8];
                let head = vec![step as u8; 2 * 100];
                let global = Some(Global { shape: vec![8, 64], offset: vec![rank * 4, 0] });
                let sharded = |data| Tensor {
                    name: "embedding",
                    dtype: DType::F64,
                    shape: vec![4, 64],
                    global,
                    data: Data::There(data),
                };
                let own = |data| Tensor {
                    name: "rng",
                    dtype: DType::U8,
                    shape: vec![200],
                    global: None,
                    data: Data::There(data),
                };
                let step_of = step.to_le_bytes();
                let counter = Tensor {
                    name: "step",
                    dtype: DType::I64,
                    shape: vec![],
                    global: None,
                    data: Data::There(&step_of),
                };
                let mut tensors = vec![sharded(&embedding), own(&head)];
                if rank == 0 && step > 100 {
                    tensors.push(counter);
                }
                let blobs = vec![("loader", &b"shard 17"[..])];
                writer.save_part(save, rank as u32, &State { tensors, blobs, ..State::default() }).unwrap();
            }
            let metrics = [("loss".to_owned(), loss), ("accuracy".to_owned(), 0.9)].into();
            let user = [("git".to_owned(), "b6b063d".into())].into_iter().collect();
            let info = Info { created: 1_790_000_000 + step, metrics, user };
            assert!(matches!(writer.publish(save, 0, &info, Depth::Data).unwrap(), Publication::Published(_)));
        }
        writer.save_part(Save { step: 400, attempt: 0, world_size: 2 }, 1, &State::default()).unwrap();
        run
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("run")
    }

    fn store(&self) -> Store {
        Store::at(&self.path())
    }

    /// Exit code, and what was printed to both outputs, without the folder that is new each time.
    fn bedplate(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_bedplate"))
            .arg("checkpoint")
            .args(args)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        format!("{}exit {}", String::from_utf8(text).unwrap(), output.status.code().unwrap())
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.bedplate(&[args, &["--format", "json"]].concat());
        serde_json::from_str(text.rsplit_once("exit ").unwrap().0).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Flips a bit in the tensors that rank 1 wrote for a step.
    fn damage(&self, step: u64) {
        let name = format!("step-{step:012}-g00000001");
        let path = self.path().join(&name).join(format!("{name}.rank-00001.safetensors"));
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn ls_tells_steps_sizes_metrics_and_health() {
    let run = Run::new();
    insta::assert_snapshot!(run.bedplate(&["ls", "run"]), @r"
    run llama-7, writer 1 since 2026-09-21 14:13:20: pod llama-0 (uid 1a2b)

    step  saved (UTC)          size      shared    ranks  metrics                  health
    300   2026-09-21 14:18:20  4.41 KiB  4.02 KiB  2      accuracy 0.9, loss NaN   complete
    200   2026-09-21 14:16:40  4.41 KiB  4.02 KiB  2      accuracy 0.9, loss 0.25  complete
    100   2026-09-21 14:15:00  4.41 KiB  -         2      accuracy 0.9, loss 0.5   complete

    complete: all files are there, with their sizes and headers; `bedplate checkpoint verify` reads every byte
    a save of step 400 by writer 1 goes on, or was left behind: the next writer sweeps it away
    exit 0
    ");
    let json = run.json(&["ls", "run"]);
    assert_eq!(json["checkpoints"][1]["metrics"]["loss"], 0.25);
    assert_eq!(json["checkpoints"][0]["metrics"]["loss"], "NaN");
    assert_eq!(json["unfinished"][0], "step-000000000400-g00000001");
}

#[test]
fn a_damaged_checkpoint_is_told_by_ls_where_it_is_cut_off_and_by_verify_where_a_bit_flipped() {
    let run = Run::new();
    insta::assert_snapshot!(run.bedplate(&["verify", "run"]), @r"
    step-000000000300-g00000001: verified, 4.41 KiB
    step-000000000200-g00000001: verified, 4.41 KiB
    step-000000000100-g00000001: verified, 4.41 KiB
    exit 0
    ");
    std::fs::remove_file(run.path().join("step-000000000300-g00000001/rank-00001.json")).unwrap();
    run.damage(200);
    insta::assert_snapshot!(run.bedplate(&["ls", "run"]), @r"
    run llama-7, writer 1 since 2026-09-21 14:13:20: pod llama-0 (uid 1a2b)

    step  saved (UTC)          size      shared    ranks  metrics                  health
    300                                                                            damaged: cannot read run/step-000000000300-g00000001/rank-00001.json: No such file or directory (os error 2)
    200   2026-09-21 14:16:40  4.41 KiB  4.02 KiB  2      accuracy 0.9, loss 0.25  complete
    100   2026-09-21 14:15:00  4.41 KiB  -         2      accuracy 0.9, loss 0.5   complete

    complete: all files are there, with their sizes and headers; `bedplate checkpoint verify` reads every byte
    a save of step 400 by writer 1 goes on, or was left behind: the next writer sweeps it away
    exit 1
    ");
    insta::assert_snapshot!(run.bedplate(&["verify", "run"]), @r"
    step-000000000300-g00000001: damaged
      cannot read run/step-000000000300-g00000001/rank-00001.json: No such file or directory (os error 2)
    step-000000000200-g00000001: damaged
      run/step-000000000200-g00000001/step-000000000200-g00000001.rank-00001.safetensors is damaged: the bytes 4096..4296, of `rng`, have the checksum e55f6fcc4f837ae6dc90dff891467f0b, not 846ebe2a4757c1ce279788b9a1ce2aee
    step-000000000100-g00000001: verified, 4.41 KiB
    2 of 3 damaged; a resume passes over what is damaged
    exit 1
    ");
    insta::assert_snapshot!(run.bedplate(&["verify", "run", "--step", "100"]), @r"
    step-000000000100-g00000001: verified, 4.41 KiB
    exit 0
    ");
    assert_eq!(run.json(&["verify", "run"])["checkpoints"][1]["health"], "damaged");
}

#[test]
fn show_tells_what_is_in_the_newest_checkpoint_or_in_one() {
    let run = Run::new();
    insta::assert_snapshot!(run.bedplate(&["show", "run"]), @r#"
    step-000000000300-g00000001
      run        llama-7
      saved      2026-09-21 14:18:20 UTC by writer 1, 2 ranks
      size       4.41 KiB, 4.02 KiB of files shared with earlier steps
      metrics    accuracy 0.9, loss NaN
      metadata   {"git":"b6b063d"}

    tensor     type  shape    size      held by
    embedding  F64   [8, 64]  4.00 KiB  2 shards
    rng        U8    [200]    200 B     rank 0, its own
    rng        U8    [200]    200 B     rank 1, its own
    step       I64   scalar   8 B       one piece

    blob    size  held by
    loader  8 B   rank 0
    loader  8 B   rank 1
    exit 0
    "#);
    let json = run.json(&["show", "run", "--step", "step-000000000100-g00000001"]);
    assert_eq!((json["step"].as_u64(), json["tensors"].as_array().map(Vec::len)), (Some(100), Some(3)));
    insta::assert_snapshot!(run.bedplate(&["show", "run", "--step", "150"]), @r"
    error: there is no such step; the newest are 300, 200, 100
    exit 2
    ");
}

#[test]
fn diff_tells_what_changed_and_what_is_the_same() {
    let run = Run::new();
    insta::assert_snapshot!(run.bedplate(&["diff", "run", "100", "200"]), @r"
    step-000000000100-g00000001 to step-000000000200-g00000001
      loss 0.5 to 0.25

    changed  rng of rank 0  U8 [200], 200 B
    changed  rng of rank 1  U8 [200], 200 B
    added    step           I64 scalar

    the same: 1 of 4 tensors, 4.00 KiB
    exit 1
    ");
    assert!(run.bedplate(&["diff", "run", "200", "200"]).ends_with("exit 0"));
    assert_eq!(run.json(&["diff", "run", "100", "200"])["same"], 1);
}

#[test]
fn export_writes_one_file_that_other_tools_read() {
    let run = Run::new();
    insta::assert_snapshot!(run.bedplate(&["export", "run", "model.safetensors", "--step", "200"]), @r"
    model.safetensors: 4 tensors of step-000000000200-g00000001, 8.40 KiB
    left out: 2 blobs, for which the format has no place (`bedplate checkpoint show`)
    exit 0
    ");
    let bytes = std::fs::read(run.0.path().join("model.safetensors")).unwrap();
    let header = bedplate_checkpoint::Header::parse(&bytes[..4096]).unwrap();
    assert_eq!(header.start + header.length, bytes.len() as u64);
    insta::assert_snapshot!(run.bedplate(&["export", "run", "model.safetensors"]), @r"
    error: model.safetensors is there already, and stays: give another name
    exit 2
    ");
}

#[test]
fn prune_shows_first_and_removes_only_when_told_to() {
    let run = Run::new();
    let args = ["prune", "run", "--last", "1", "--lowest", "loss"];
    insta::assert_snapshot!(run.bedplate(&args), @r"
    remove  step-000000000100-g00000001
    keep    step-000000000200-g00000001  lowest `loss`: 0.25
    keep    step-000000000300-g00000001  the newest that is whole, one of the last 1
    note: step-000000000300-g00000001: `loss` is NaN, which is never the best
    1 of 3 would be removed; nothing was: --yes removes them
    exit 1
    ");
    assert_eq!(run.store().steps().unwrap().len(), 3);
    // What would be ignored is refused.
    assert!(run.bedplate(&["prune", "run", "--last", "1", "--best", "2"]).contains("--lowest <METRIC>|--highest"));
    assert!(run.bedplate(&[&args[..], &["--highest", "accuracy"]].concat()).ends_with("exit 2"));
    insta::assert_snapshot!(run.bedplate(&[&args[..], &["--yes"]].concat()), @r"
    removed  step-000000000100-g00000001
    keep     step-000000000200-g00000001  lowest `loss`: 0.25
    keep     step-000000000300-g00000001  the newest that is whole, one of the last 1
    note: step-000000000300-g00000001: `loss` is NaN, which is never the best
    1 of 3 removed
    exit 0
    ");
    assert_eq!(run.store().steps().unwrap().len(), 2);
    assert!(run.bedplate(&args).ends_with("nothing goes\nexit 0"));
    // The newest is not what it seems: the one before it stays.
    run.damage(300);
    let pruned = run.bedplate(&["prune", "run", "--last", "1", "--yes"]);
    assert!(pruned.contains("keep  step-000000000200") && pruned.ends_with("nothing goes\nexit 0"), "{pruned}");
}

#[test]
fn what_is_no_store_is_told() {
    let run = Run::new();
    std::fs::create_dir(run.0.path().join("empty")).unwrap();
    insta::assert_snapshot!(run.bedplate(&["ls", "nowhere"]), @r"
    error: cannot list nowhere: No such file or directory (os error 2)
    exit 2
    ");
    insta::assert_snapshot!(run.bedplate(&["ls", "empty"]), @r"
    no run has saved anything here
    exit 0
    ");
    insta::assert_snapshot!(run.bedplate(&["verify", "empty"]), @r"
    error: empty: there are no checkpoints; give the folder whose folders begin with `step-`
    exit 2
    ");
}

#[test]
fn names_that_would_write_to_the_terminal_are_shown_harmless() {
    let run = Run::new();
    let store = Store::at(&run.0.path().join("hostile"));
    let mut writer = store.take_over("a\u{1b}[2Jb", "me", 0).unwrap();
    let tensor =
        Tensor { name: "w\u{1b}]0;x\u{7}", dtype: DType::U8, shape: vec![1], global: None, data: Data::There(&[1]) };
    writer.save(1, &State { tensors: vec![tensor], ..State::default() }, &Info::default()).unwrap();
    for command in ["ls", "show"] {
        assert!(!run.bedplate(&[command, "hostile"]).contains('\u{1b}'));
    }
}

/// A run in a bucket of a real S3 server.
struct Bucket(bedplate_s3::Server, tempfile::TempDir);

impl Bucket {
    fn new() -> Self {
        let bucket = Self(bedplate_s3::Server::start(), tempfile::tempdir().unwrap());
        let mut writer = bucket.store().take_over("llama-7", "pod llama-0 (uid 1a2b)", 1_790_000_000).unwrap();
        for (step, loss) in [(100, 0.5), (200, 0.25)] {
            let weight = vec![step as u8; 4 * 300];
            let frozen = [7; 64];
            let tensor = |name, data| Tensor {
                name,
                dtype: DType::F32,
                shape: vec![300],
                global: None,
                data: Data::There(data),
            };
            let base =
                Tensor { name: "base", dtype: DType::U8, shape: vec![64], global: None, data: Data::There(&frozen) };
            let state = State {
                tensors: vec![tensor("weight", &weight), base],
                blobs: vec![("loader", b"shard 17")],
                ..State::default()
            };
            let metrics = [("loss".to_owned(), loss)].into();
            let info = Info { created: 1_790_000_000 + step, metrics, ..Info::default() };
            writer.save(step, &state, &info).unwrap();
        }
        bucket
    }

    fn store(&self) -> Store {
        let patience = std::time::Duration::from_secs(2);
        let access = bedplate_checkpoint::Access { patience, environment: self.0.environment() };
        Store::open("s3://checkpoints/run".as_ref(), &access).unwrap()
    }

    /// Exit code, and what was printed to both outputs, without the port that is new each time.
    fn bedplate(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_bedplate"))
            .arg("checkpoint")
            .args(args)
            .envs(self.0.environment())
            .current_dir(self.1.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let text = text.replace(&self.0.address().to_string(), "127.0.0.1:9000");
        format!("{text}exit {}", output.status.code().unwrap())
    }
}

#[test]
fn a_bucket_is_told_of_as_a_folder_is() {
    let bucket = Bucket::new();
    let url = "s3://checkpoints/run";
    insta::assert_snapshot!(bucket.bedplate(&["ls", url]), @r"
    run llama-7, writer 1 since 2026-09-21 14:13:20: pod llama-0 (uid 1a2b)

    step  saved (UTC)          size      shared  ranks  metrics    health
    200   2026-09-21 14:16:40  1.24 KiB  -       1      loss 0.25  complete
    100   2026-09-21 14:15:00  1.24 KiB  -       1      loss 0.5   complete

    complete: all files are there, with their sizes and headers; `bedplate checkpoint verify` reads every byte
    exit 0
    ");
    insta::assert_snapshot!(bucket.bedplate(&["verify", url]), @r"
    step-000000000200-g00000001: verified, 1.24 KiB
    step-000000000100-g00000001: verified, 1.24 KiB
    exit 0
    ");
    insta::assert_snapshot!(bucket.bedplate(&["show", url, "--step", "100"]), @r"
    step-000000000100-g00000001
      run        llama-7
      saved      2026-09-21 14:15:00 UTC by writer 1, 1 rank
      size       1.24 KiB
      metrics    loss 0.5

    tensor  type  shape  size      held by
    base    U8    [64]   64 B      one piece
    weight  F32   [300]  1.17 KiB  one piece

    blob    size  held by
    loader  8 B   rank 0
    exit 0
    ");
    insta::assert_snapshot!(bucket.bedplate(&["diff", url, "100", "200"]), @r"
    step-000000000100-g00000001 to step-000000000200-g00000001
      loss 0.5 to 0.25

    changed  weight  F32 [300], 1.17 KiB

    the same: 1 of 2 tensors, 64 B
    exit 1
    ");
    insta::assert_snapshot!(bucket.bedplate(&["export", url, "model.safetensors"]), @r"
    model.safetensors: 2 tensors of step-000000000200-g00000001, 5.23 KiB
    left out: 1 blobs, for which the format has no place (`bedplate checkpoint show`)
    exit 0
    ");
    assert!(bucket.1.path().join("model.safetensors").exists());
    insta::assert_snapshot!(bucket.bedplate(&["prune", url, "--last", "1", "--yes"]), @r"
    removed  step-000000000100-g00000001
    keep     step-000000000200-g00000001  the newest that is whole, one of the last 1
    1 of 2 removed
    exit 0
    ");
    assert_eq!(bucket.store().steps().unwrap().len(), 1);

    let name = "step-000000000200-g00000001";
    let object = bucket.0.object(&format!("run/{name}/{name}.rank-00000.safetensors"));
    let mut bytes = std::fs::read(&object).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(object, bytes).unwrap();
    insta::assert_snapshot!(bucket.bedplate(&["verify", url]), @r"
    step-000000000200-g00000001: damaged
      s3://checkpoints/run/step-000000000200-g00000001/step-000000000200-g00000001.rank-00000.safetensors is damaged: the bytes 5296..5360, of `base`, have the checksum 195ffd3dc739368f0be29df363b1201c, not 82053f469c34f72b42f39bf8713c41d7
    1 of 1 damaged; a resume passes over what is damaged
    exit 1
    ");
}

#[test]
fn what_is_wrong_with_a_bucket_is_one_line() {
    let bucket = Bucket::new();
    insta::assert_snapshot!(bucket.bedplate(&["verify", "s3://checkpoints/nothing"]), @r"
    error: s3://checkpoints/nothing: there are no checkpoints; give the folder whose folders begin with `step-`
    exit 2
    ");
    insta::assert_snapshot!(bucket.bedplate(&["ls", "s3://elsewhere/run"]), @r"
    error: cannot list s3://elsewhere/run: http://127.0.0.1:9000 has no bucket `elsewhere`: create it, or correct the URL
    exit 2
    ");
    insta::assert_snapshot!(bucket.bedplate(&["ls", "ftp://checkpoints/run"]), @r"
    error: `ftp` is no scheme of an object store: give one of s3, s3a, gs, az, abfs, abfss
    exit 2
    ");
    insta::assert_snapshot!(bucket.bedplate(&["ls", "s3://key:hush@checkpoints/run"]), @r"
    error: a URL of checkpoints is a bucket and a prefix; credentials are read from the environment
    exit 2
    ");
}
