//! The cache: found again, whole after a crash, told apart by everything that matters.

use super::*;

fn keys() -> ScoreKeys {
    ScoreKeys::new("model", 128)
}

#[test]
fn scores_are_found_again_and_the_last_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/yet/scores.bin");
    let (a, b) = (keys().key("q", "a"), keys().key("q", "b"));
    {
        let mut cache = ScoreCache::open(&path).unwrap();
        assert!(cache.is_empty() && cache.get(a).is_none());
        cache.put_many(&[(a, 1.5), (b, -2.0)]).unwrap();
        cache.put_many(&[(a, 2.5)]).unwrap();
        cache.flush().unwrap();
        assert_eq!((cache.len(), cache.get(a)), (2, Some(2.5)));
        let message = ScoreCache::open(&path).unwrap_err().to_string();
        assert!(message.contains("in use"), "{message}");
    }
    let cache = ScoreCache::open(&path).unwrap();
    assert_eq!((cache.len(), cache.get(a), cache.get(b)), (2, Some(2.5), Some(-2.0)));
    assert_eq!(fs::metadata(&path).unwrap().len(), (MAGIC.len() + 3 * RECORD) as u64);
}

#[test]
fn a_file_cut_anywhere_keeps_its_whole_records_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores");
    let entries: Vec<(ScoreKey, f32)> = (0..4).map(|i| (keys().key("q", &i.to_string()), i as f32 - 1.5)).collect();
    ScoreCache::open(&path).unwrap().put_many(&entries).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut cache = ScoreCache::open(&path).unwrap();
        let left = length.saturating_sub(MAGIC.len()) / RECORD;
        assert_eq!(cache.len(), left, "cut at {length}");
        for (index, &(key, score)) in entries.iter().enumerate() {
            assert_eq!(cache.get(key), (index < left).then_some(score), "cut at {length}");
        }
        cache.put_many(&entries[left..]).unwrap();
        drop(cache);
        assert!(fs::read(&path).unwrap() == whole, "cut at {length}");
    }
}

#[test]
fn a_damaged_record_is_passed_over_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores");
    let entries: Vec<(ScoreKey, f32)> = (0..3).map(|i| (keys().key("q", &i.to_string()), i as f32)).collect();
    ScoreCache::open(&path).unwrap().put_many(&entries).unwrap();
    let whole = fs::read(&path).unwrap();
    for byte in 0..RECORD {
        let mut bad = whole.clone();
        bad[MAGIC.len() + RECORD + byte] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let cache = ScoreCache::open(&path).unwrap();
        assert_eq!((cache.len(), cache.get(entries[0].0), cache.get(entries[1].0)), (2, Some(0.0), None), "byte {byte}");
    }
    let mut zeros = whole;
    zeros[MAGIC.len() + RECORD..].fill(0);
    fs::write(&path, &zeros).unwrap();
    assert_eq!(ScoreCache::open(&path).unwrap().len(), 1);
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for content in ["dear diary", "dredge-scores-2\nand more", "x"] {
        fs::write(&path, content).unwrap();
        let message = ScoreCache::open(&path).unwrap_err().to_string();
        assert!(message.contains("is no score cache"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn each_ingredient_changes_the_key() {
    let all = [
        keys().key("ab", "c"),
        ScoreKeys::new("other", 128).key("ab", "c"),
        ScoreKeys::new("model", 127).key("ab", "c"),
        keys().key("a", "bc"),
        keys().key("ab", "d"),
        keys().key("c", "ab"),
    ];
    assert_eq!(all[0], keys().key("ab", "c"));
    for (index, key) in all.iter().enumerate() {
        assert!(!all[..index].contains(key), "{index}");
    }
}
