//! Wrong requests end with exit code 2 and one line that says what to do.

use std::fs;

use crate::collections::animals;
use crate::command::{failure, trainer};

#[test]
fn a_wrong_request_is_exit_code_2_and_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    fs::write(folder.path().join("bad.toml"), "[train]\nseed = 3\nlerning_rate = 1\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["train", "--recipe", "anse"], &["`ance`", "trainer recipes"]),
        (&["train", "bad.toml"], &["bad.toml, line 3", "`learning_rate`"]),
        (&["train", "missing.toml"], &["missing.toml"]),
        (&["train", "--set", "train.stepz=3"], &["--set train.stepz=3", "`steps`"]),
        (&["train", "--set", "nonsense"], &["KEY.PATH=VALUE"]),
        (&["train", "--device", "cuda"], &["auto, gpu, gpu:N or cpu"]),
        (&["train", "--data", "nowhere", "--device", "cpu"], &["nowhere"]),
        (&["train", "--data", "data", "--device", "cpu", "--set", "data.train=trian"], &["trian", "train"]),
        (&["train", "--data", "data", "--device", "cpu", "--model", "builtin:huge"], &["builtin:tiny"]),
        (&["train", "--data", "data", "--device", "cpu", "--set", "data.test=exam"], &["no split `exam`", "dev, test, train"]),
        (&["train", "--data", "data", "--device", "cpu", "--recipe", "rlhn"], &["data.decisions = FILE"]),
        (&["train", "ance"], &["--recipe ance"]),
        (&["train", "--resume", "data"], &["no run folder", "config.toml"]),
        (&["evaluate", "--data", "data", "--device", "cpu", "--model", "builtin:tiny", "--split", "tset"], &["tset", "test"]),
        (&["search", "--data", "data", "--device", "cpu", "--model", "builtin:tiny", "--k", "0", "x"], &["1 to 1024"]),
        (&["search", "--data", "data", "--device", "cpu", "--model", "builtin:tiny", " "], &["query is empty"]),
        (&["mine", "--data", "data", "--device", "cpu", "--model", "builtin:tiny", "--output", "x", "--negatives", "0"], &["at least one"]),
        (&["encode", "--model", "data", "--input", "data/corpus.jsonl", "--output", "x", "--device", "cpu"], &["config.json"]),
        (
            &[
                "mine",
                "--data",
                "data",
                "--model",
                "builtin:tiny",
                "--output",
                "x",
                "--negatives",
                "2",
                "--min-score",
                "0.5",
                "--max-score",
                "0.1",
            ],
            &["--min-score 0.5"],
        ),
        (&["evaluate", "--data", "data", "--device", "cpu", "--model", "builtin:tiny", "--depth", "5"], &["100 to 1024"]),
        (&["train", "--data", "data", "--device", "cpu", "--out", "bad.toml"], &["bad.toml is a file"]),
        // Known before the rounds in front are trained.
        (
            &[
                "train",
                "--data",
                "data",
                "--device",
                "cpu",
                "--recipe",
                "rocketqa",
                "--set",
                "train.steps=40",
                "--set",
                "round.1.train.warmup=30",
            ],
            &["[[round]] number 2", "the warm-up takes 30 steps"],
        ),
        (&["evaluate", "--data", "data", "--run", "x.trec", "--normalize"], &["for --model"]),
        (&["train", "--data", "data", "--device", "cpu", "--recipe", "syneg"], &["negatives.source.", "trainer generate"]),
        (&["recipes", "dpr2"], &["there is no recipe `dpr2`"]),
        (&["export", "data", "--output", "x"], &["no run folder"]),
    ];
    for (arguments, parts) in cases {
        let (code, line) = failure(folder.path(), arguments);
        assert_eq!(code, 2, "{arguments:?}: {line}");
        for part in *parts {
            assert!(line.contains(part), "{arguments:?}: expected {part:?} in: {line}");
        }
    }
}

#[test]
fn an_output_folder_in_use_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/precious"), "x").unwrap();
    let (code, line) = failure(folder.path(), &["train", "--data", "data", "--out", "run", "--device", "cpu"]);
    assert_eq!(code, 2);
    assert!(line.contains("not empty") && !line.contains("--resume"), "{line}");
    assert_eq!(fs::read(folder.path().join("run/precious")).unwrap(), b"x");
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_nobody_takes_is_an_error_and_notes_that_nobody_reads_are_none() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let output = trainer(folder.path()).arg("recipes").stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("writing to standard output: No space left"), "{output:?}");
    let mut command = trainer(folder.path());
    command.args(["train", "--data", "data", "--device", "cpu", "--out", "run", "--set", "train.steps=2"]);
    let output = command.stderr(full()).output().unwrap();
    assert!(output.status.success() && folder.path().join("run/model").is_dir(), "{output:?}");
}

#[test]
fn a_run_that_cannot_begin_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    fs::write(folder.path().join("lists.jsonl"), "{\"query_id\": \"q0\"").unwrap();
    let lists = "negatives.source=[{from=\"in-batch\"},{from=\"file\",path=\"lists.jsonl\"}]";
    let train = ["train", "--data", "data", "--recipe", "in-batch", "--device", "cpu", "--out", "run"];
    let (code, line) = failure(folder.path(), &[&train[..], &["--set", "batch.negatives=1", "--set", lists]].concat());
    assert!(code == 2 && line.contains("lists.jsonl"), "{code}: {line}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_broken_collection_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let qrels = folder.path().join("data/qrels/train.tsv");
    let text = fs::read_to_string(&qrels).unwrap().replacen("\t1\n", "\tone\n", 1);
    fs::write(&qrels, text).unwrap();
    let (_, line) = failure(folder.path(), &["train", "--data", "data", "--device", "cpu"]);
    assert!(line.contains("train.tsv") && line.contains('2') && line.contains("one"), "{line}");
}
