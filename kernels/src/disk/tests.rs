//! Files of rows: what comes back, what is refused, and the catalogue streamed from them.

use std::fs;

use super::*;
use crate::catalogue::{CASES, Case, HALF_CASES, Problem};
use crate::{SearchError, SearchRequest, TopK, reference, search};

fn write(path: &Path, rows: &[f32], dimension: usize, format: RowFormat) -> DiskStore {
    let mut writer = DiskWriter::create(path, dimension, format).unwrap();
    rows.chunks(3 * dimension).for_each(|some| writer.append(some).unwrap());
    writer.finish().unwrap()
}

fn tensor(values: &[f32], width: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), (device, DType::F32))
}

/// From memory in one shard, and from the file in shards of so many rows.
fn both(case: &Case, problem: &Problem, store: &DiskStore, device: &Device) -> [Result<TopK, SearchError>; 2] {
    let rows = tensor(&problem.rows, case.dimension, device);
    let shards = [if case.half && crate::describe(device).is_none() { rows.cast(DType::F16) } else { rows }];
    [(&shards).into(), store.into()].map(|store: crate::Store<'_>| {
        let reference::Rules { k, exclusions, ceiling, floor, choice, bins } = problem.rules(case);
        let queries = tensor(&problem.queries, case.dimension, device);
        search(SearchRequest { exclusions, ceiling, floor, choice, bins, ..SearchRequest::new(queries, store, k) })
    })
}

fn catalogue(device: &Device) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows");
    for case in CASES.iter().chain(HALF_CASES) {
        let problem = case.problem(7);
        let formats = if case.half { vec![RowFormat::F16] } else { vec![RowFormat::F32] };
        for format in formats {
            let mut store = write(&file, &problem.rows, case.dimension, format);
            for most_rows in [usize::MAX, 999, 64] {
                store.most_rows = most_rows;
                let [memory, disk] = both(case, &problem, &store, device);
                assert_eq!(disk, memory, "{} in shards of {most_rows}", case.name);
            }
            let rows = case.rows() as u64;
            let passes = if case.queries == 0 { 0 } else { 3 };
            assert_eq!(store.usage().rows, passes * rows, "{}", case.name);
        }
    }
}

#[test]
fn the_catalogue_streamed_from_a_file_is_the_catalogue_in_memory() {
    catalogue(&Device::flex());
}

#[test]
fn the_catalogue_streamed_through_a_software_gpu() {
    if let Some(device) = crate::test_gpu() {
        catalogue(&device);
    }
}

#[test]
fn rows_come_back_in_the_precision_of_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<f32> = (0..60).map(|place| ((place * 37) % 61) as f32 / 7.0 - 4.0).chain([0.0; 6]).collect();
    for (format, error) in [(RowFormat::F32, 0.0), (RowFormat::F16, 4.5 / 2048.0), (RowFormat::I8, 4.9 / 254.0)] {
        let store = write(&folder.path().join("rows"), &rows, 6, format);
        assert_eq!((store.rows(), store.dimension(), store.format()), (11, 6, format));
        store.verify().unwrap();
        let ids = [10, 3, 3, 0];
        let got = store.gather(&ids, &Device::flex()).into_data().try_into_vec::<f32>().unwrap();
        let expected = ids.iter().flat_map(|&id| &rows[id as usize * 6..][..6]);
        assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= error), "{format:?} {got:?}");
    }
}

#[test]
fn a_damaged_file_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    write(&path, &[1.0; 12], 4, RowFormat::F32);
    let whole = fs::read(&path).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= byte;
        bytes
    };
    let cases = [
        (whole[..10].to_vec(), "10 bytes"),
        (whole[..whole.len() - 1].to_vec(), "111 bytes, 3 rows of width 4 have 112"),
        ([whole.clone(), vec![0]].concat(), "113 bytes"),
        (with(0, 1), "does not begin"),
        (with(8, 2), "version 3, expected 1"),
        (with(12, 8), "checksum"),
        (with(16, 1), "checksum"),
        (with(31, 255), "checksum"),
        (with(60, 1), "checksum"),
    ];
    for (bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        let message = DiskStore::open(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("write it anew"), "{message}");
    }
    fs::write(&path, with(70, 1)).unwrap();
    assert!(DiskStore::open(&path).unwrap().verify().unwrap_err().to_string().contains("rows do not agree"));
    assert!(matches!(DiskStore::open(&folder.path().join("none")), Err(DiskError::Io { doing: "opening", .. })));
}

#[test]
fn a_file_is_there_when_it_is_finished_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let count = || fs::read_dir(folder.path()).unwrap().count();
    let mut writer = DiskWriter::create(&path, 2, RowFormat::I8).unwrap();
    assert!(matches!(writer.append(&[1.0; 3]), Err(DiskError::Width { got: 3, dimension: 2 })));
    writer.append(&[1.0, 2.0]).unwrap();
    assert!(matches!(writer.append(&[1.0, 2.0, 1.0, f32::NAN]), Err(DiskError::NotFinite { row: 2 })));
    assert!(!path.exists() && count() == 1);
    drop(writer);
    assert_eq!(count(), 0);
    write(&path, &[], 2, RowFormat::F32);
    assert!(path.exists() && count() == 1);
    assert!(DiskWriter::create(&folder.path().join("no/where"), 2, RowFormat::F32).is_err());
}

#[test]
fn a_file_of_another_width_is_refused_and_nan_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = vec![1.0; 40];
    rows[37] = f32::NAN;
    let store = write(&folder.path().join("rows"), &rows, 4, RowFormat::F32);
    let ask = |width: usize| search(SearchRequest::new(Tensor::ones([2, width], (&Device::flex(), DType::F32)), &store, 3)).unwrap_err();
    assert_eq!(ask(5), SearchError::Dimension { shard: 0, got: 4, expected: 5 });
    assert_eq!(ask(4), SearchError::NotANumber { query: 0 });
}

#[test]
fn a_panic_on_the_way_ends_the_reader_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = write(&folder.path().join("rows"), &[1.0; 40], 4, RowFormat::F32);
    store.most_rows = 1;
    let search = || crate::Store::Disk(&store).each(&Device::flex(), |_| panic!("on the way"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(search)).is_err());
}
