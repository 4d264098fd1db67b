//! The embedding store on the CPU backend: order, shards, checks.

use burn::tensor::Device;
use kernels::Exclusions;

use super::{Placed, on_a_line, tensor, values};
use crate::MiningError;
use crate::store::{EmbeddingStore, StorePrecision};

/// Row i is (i + 1, 1, 2 i).
fn counted(documents: usize) -> Placed {
    Placed::new((0..documents).map(|it| vec![it as f32 + 1.0, 1.0, 2.0 * it as f32]).collect(), vec![vec![1.0, 0.0, 0.0]])
}

#[test]
fn row_i_is_document_i_however_documents_are_batched_and_sharded() {
    let device = Device::flex();
    for shard in [1, 3, 7, 1 << 16] {
        for lengths in [None, Some((0..20).map(|it| (it * 7) % 13 + 1).collect::<Vec<u32>>())] {
            let mut encoder = counted(20);
            encoder.lengths = lengths.clone();
            let mut store = EmbeddingStore::in_shards(20, 3, StorePrecision::F32, &device, shard);
            store.fill(&mut encoder, Some(5)).unwrap();
            let expected: Vec<f32> = encoder.documents.concat();
            assert_eq!(store.shards().iter().cloned().flat_map(values).collect::<Vec<_>>(), expected);
            let ids = [19, 0, 7, 7, 3, 12];
            let picked: Vec<f32> = ids.iter().flat_map(|&id| encoder.documents[id as usize].clone()).collect();
            assert_eq!(values(store.rows(&ids).unwrap()), picked);
            assert_eq!((store.version(), store.encoded_at_step(), store.len()), (1, Some(5), 20));
            if let Some(lengths) = &lengths {
                for call in &encoder.calls {
                    let longest = call.iter().map(|&id| lengths[id as usize]).max().unwrap() as usize;
                    assert!(call.len() == 1 || call.len() * longest <= 40, "{call:?}");
                }
            }
        }
    }
}

#[test]
fn a_second_fill_replaces_every_row() {
    let device = Device::flex();
    let mut encoder = counted(9);
    let mut store = EmbeddingStore::in_shards(9, 3, StorePrecision::F32, &device, 4);
    store.fill(&mut encoder, None).unwrap();
    for row in &mut encoder.documents {
        row[1] = -4.0;
    }
    store.fill(&mut encoder, Some(70)).unwrap();
    assert_eq!(values(store.rows(&[0, 8]).unwrap()), [1.0, -4.0, 0.0, 9.0, -4.0, 16.0]);
    assert_eq!((store.version(), store.encoded_at_step()), (2, Some(70)));
}

#[test]
fn sixteen_bits_hold_the_rows_to_their_precision() {
    let device = Device::flex();
    let mut encoder = on_a_line(&[0.1, 0.7, -0.3]);
    let mut store = EmbeddingStore::new(3, 2, StorePrecision::F16, &device);
    store.fill(&mut encoder, None).unwrap();
    let expected = [0.1, 1.0, 0.7, 1.0, -0.3, 1.0];
    for (got, expected) in values(store.rows(&[0, 1, 2]).unwrap()).iter().zip(expected) {
        assert!((got - expected).abs() < 5e-4, "{got} {expected}");
    }
    let query = tensor(vec![1.0, 0.0], 2, &device);
    let scores = store.similarities(&query, &[(0, 2), (0, 1)]).unwrap();
    assert!((scores[0] + 0.3).abs() < 5e-4 && (scores[1] - 0.7).abs() < 5e-4);
}

#[test]
fn search_runs_over_shards_with_exclusions() {
    let device = Device::flex();
    let mut store = EmbeddingStore::in_shards(5, 2, StorePrecision::F32, &device, 2);
    store.fill(&mut on_a_line(&[0.2, 0.9, 0.5, 0.9, 0.1]), None).unwrap();
    let query = || tensor(vec![1.0, 0.0], 2, &device);
    let found =
        |exclusions: Option<&Exclusions>, k| store.search(query(), k, exclusions, None).unwrap().row(0).map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(found(None, 3), [1, 3, 2]);
    assert_eq!(found(Some(&Exclusions::from_rows([vec![1, 2]])), 3), [3, 0, 4]);
    let message = store.search(query(), 1025, None, None).unwrap_err().to_string();
    assert!(message.contains("1025") && message.contains("1024"), "{message}");
}

#[test]
fn rows_that_cannot_be_right_are_errors_that_name_the_document() {
    let device = Device::flex();
    for broken in [f32::NAN, f32::INFINITY, 0.0] {
        let mut encoder = counted(8);
        encoder.documents[5] = vec![broken; 3];
        let error = EmbeddingStore::encode(&mut encoder, 8, &device).unwrap_err();
        assert!(matches!(error, MiningError::BadRows { bad: 1, rows: 8, document: 5, .. }), "{error}");
        // A text without content has a right to a zero row, to nothing else.
        encoder.lengths = Some((0..8).map(|it| if it == 5 { 2 } else { 9 }).collect());
        assert_eq!(EmbeddingStore::encode(&mut encoder, 8, &device).is_ok(), broken == 0.0);
    }
    // 16 bits overflow at 65,504.
    let mut encoder = counted(3);
    encoder.documents[1][0] = 1e6;
    let mut store = EmbeddingStore::new(3, 3, StorePrecision::F16, &device);
    assert!(matches!(store.fill(&mut encoder, None), Err(MiningError::BadRows { document: 1, .. })));
}

#[test]
fn a_store_without_rows_does_not_answer() {
    let device = Device::flex();
    // Two shards: the first is filled when the second fails.
    let mut store = EmbeddingStore::in_shards(4, 3, StorePrecision::F32, &device, 3);
    assert!(matches!(store.rows(&[0]), Err(MiningError::Unfilled)));
    // The encoder has vectors for three documents only.
    let error = store.fill(&mut counted(3), None).unwrap_err();
    assert!(error.to_string().contains("no vector 3"), "{error}");
    assert!(matches!(store.search(tensor(vec![1.0; 3], 3, &device), 1, None, None), Err(MiningError::Unfilled)));
    store.fill(&mut counted(4), None).unwrap();
    assert_eq!(values(store.rows(&[3]).unwrap()), [4.0, 1.0, 6.0]);
    assert!(matches!(store.rows(&[4]), Err(MiningError::Beyond { id: 4, count: 4, .. })));
    let mut wide = counted(4);
    wide.dimension = 3;
    wide.documents = vec![vec![1.0; 3]; 4];
    let mut narrow = EmbeddingStore::new(4, 2, StorePrecision::F32, &device);
    let error = narrow.fill(&mut wide, None).unwrap_err();
    assert!(matches!(error, MiningError::Shape { got: [4, 3], expected: [4, 2], .. }), "{error}");
    let empty = EmbeddingStore::encode(&mut counted(0), 0, &device).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn rows_in_a_file_are_found_and_mined_as_on_the_device() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    for precision in [StorePrecision::F32, StorePrecision::F16] {
        // More than a window of rows.
        let mut encoder = counted(5000);
        encoder.documents.iter_mut().for_each(|row| row.iter_mut().for_each(|value| *value = (*value * 0.37).sin()));
        encoder.lengths = Some((0..5000).map(|it| (it * 7) % 13 + 3).collect());
        let mut memory = EmbeddingStore::new(5000, 3, precision, &device);
        let mut disk = EmbeddingStore::in_folder(5000, 3, precision, &device, folder.path());
        assert!(matches!(disk.rows(&[0]), Err(MiningError::Unfilled)));
        memory.fill(&mut encoder, Some(3)).unwrap();
        disk.fill(&mut encoder, Some(3)).unwrap();
        assert_eq!((files(), disk.encoded_at_step(), disk.shards().len()), (1, Some(3), 0));
        let query = || tensor(vec![0.4, -0.2, 0.9, -1.0, 0.3, 0.1], 3, &device);
        let excluded = Exclusions::from_rows([vec![1, 2, 4999], vec![]]);
        let same = |memory: &EmbeddingStore, disk: &EmbeddingStore| {
            let found = |store: &EmbeddingStore| store.search(query(), 50, Some(&excluded), Some(&[0.5, 9.0])).unwrap();
            assert_eq!(found(memory), found(disk));
            let ids = [4999, 0, 4096, 7, 7];
            assert_eq!(values(memory.rows(&ids).unwrap()), values(disk.rows(&ids).unwrap()));
            let pairs = [(0, 4998), (1, 3), (0, 3)];
            assert_eq!(memory.similarities(&query(), &pairs).unwrap(), disk.similarities(&query(), &pairs).unwrap());
        };
        same(&memory, &disk);
        same(&memory.normalised().unwrap().unwrap(), &disk.normalised().unwrap().unwrap());
        assert_eq!((disk.save().unwrap(), files()), (memory.save().unwrap(), 1));
        // A failed fill answers nothing, and the store stays in its folder.
        encoder.documents[17][0] = f32::NAN;
        assert!(disk.fill(&mut encoder, None).is_err());
        assert!(matches!(disk.rows(&[0]), Err(MiningError::Unfilled)));
        encoder.documents[17][0] = 1.0;
        memory.fill(&mut encoder, None).unwrap();
        disk.refill(0..3, &mut encoder, None).unwrap_err();
        disk.fill(&mut encoder, None).unwrap();
        same(&memory, &disk);
        assert_eq!((disk.disk_use().unwrap().rows, memory.disk_use()), (5000, None));
    }
    assert_eq!(files(), 0);
    let nowhere = EmbeddingStore::in_folder(3, 3, StorePrecision::F32, &device, &folder.path().join("nowhere")).fill(&mut counted(3), None);
    assert!(nowhere.unwrap_err().to_string().contains("nowhere"));
}
