//! Parquet files as the hub lays them out, and damaged ones.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StringViewArray},
    datatypes::Schema,
};

use super::*;

pub(super) fn table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema: Arc<Schema> = batch.schema();
    let file = fs::File::create(path).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

pub(super) fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn lists(values: &[&[&str]]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in values {
        for text in *row {
            lists.values().append_value(text);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn numbers(values: &[&[Option<f64>]]) -> ArrayRef {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for row in values {
        for number in *row {
            lists.values().append_option(*number);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn hub(folder: &Path, grades: ArrayRef) {
    let number = |shard| format!("{shard:05}-of-00002.parquet");
    table(
        &folder.join("corpus").join(format!("corpus-{}", number(0))),
        vec![("_id", Arc::new(Int64Array::from(vec![10])) as ArrayRef), ("text", strings(&["one"])), ("title", strings(&["T"]))],
    );
    table(
        &folder.join("corpus").join(format!("corpus-{}", number(1))),
        vec![("_id", strings(&["20"])), ("title", strings(&[""])), ("text", Arc::new(StringViewArray::from(vec!["two"])) as ArrayRef)],
    );
    table(&folder.join("queries.parquet"), vec![("_id", strings(&["q"])), ("text", strings(&["which"]))]);
    table(
        &folder.join("data/test-00000-of-00001.parquet"),
        vec![("query-id", strings(&["q", "q"])), ("corpus-id", strings(&["10", "20"])), ("score", grades)],
    );
}

#[test]
fn a_hub_folder_opens_with_shards_titles_and_float_grades() {
    for grades in [Arc::new(Float64Array::from(vec![0.0, 2.0])) as ArrayRef, Arc::new(Int64Array::from(vec![0, 2]))] {
        let folder = tempfile::tempdir().unwrap();
        hub(folder.path(), grades);
        let collection = open(folder.path()).unwrap();
        assert_eq!(collection.documents.texts().iter().collect::<Vec<_>>(), ["T one", "two"]);
        assert_eq!(judged(&collection, "test"), ["q 10 0", "q 20 2"]);
    }
}

#[test]
fn a_fractional_grade_is_an_error_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    hub(folder.path(), Arc::new(Float64Array::from(vec![1.0, 0.5])));
    let message = open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("test-00000-of-00001.parquet:2: the grade `0.5`"), "{message}");
}

#[test]
fn faults_in_shards_of_judgments_are_told_of_their_shard() {
    let folder = tempfile::tempdir().unwrap();
    hub(folder.path(), Arc::new(Int64Array::from(vec![0, 2])));
    for (document, fault) in [
        ("x", "1 row(s) name a document that the collection does not have: `x` (line 1)"),
        ("20", "query `q` and document `20` are judged twice, with grades 2 and 1"),
    ] {
        let grade: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        table(
            &folder.path().join("data/test-00001-of-00002.parquet"),
            vec![("query-id", strings(&["q"])), ("corpus-id", strings(&[document])), ("score", grade)],
        );
        let message = open(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("test-00001-of-00002.parquet: {fault}")), "{message}");
    }
}

#[test]
fn a_label_that_is_missing_is_an_error_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let columns = |labels: &[Option<f64>]| {
        vec![
            ("query", strings(&["q", "r"])),
            ("docs", lists(&[&["a", "b", "c"], &["a", "b", "c"]])),
            ("labels", numbers(&[&[Some(3.0), Some(0.0), Some(1.0)], labels])),
        ]
    };
    table(&path, columns(&[Some(0.0), Some(2.0), Some(0.0)]));
    assert_eq!(judged(&open(&path).unwrap(), "train"), ["q0 d0 1", "q0 d2 1", "q1 d1 1"]);
    for missing in [None, Some(f64::NAN)] {
        table(&path, columns(&[Some(1.0), missing, Some(0.0)]));
        let message = open(&path).unwrap_err().to_string();
        assert!(message.contains("train.parquet:2: `labels` has no number for text 2 of 3"), "{message}");
    }
}

#[test]
fn training_columns_open_with_lists_of_negatives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    table(&path, vec![("anchor", strings(&["what", "who"])), ("positive", strings(&["x", "y"])), ("negative", lists(&[&["y", "z"], &[]]))]);
    for source in [folder.path(), &path] {
        let collection = open(source).unwrap();
        assert_eq!(judged(&collection, "train"), ["q0 d0 1", "q1 d1 1"]);
        let lists = collection.negatives.unwrap();
        assert_eq!(lists.row(0).iter().map(|listed| listed.document).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(lists.row(1), []);
    }
}

#[test]
fn missing_columns_are_named_with_those_there_are() {
    let folder = tempfile::tempdir().unwrap();
    hub(folder.path(), Arc::new(Int64Array::from(vec![0, 2])));
    table(&folder.path().join("queries.parquet"), vec![("number", strings(&["q"])), ("text", strings(&["which"]))]);
    let message = open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("no usable column for an id") && message.contains("number, text"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.parquet");
    table(&path, vec![("only", strings(&["q"]))]);
    assert!(matches!(open(&path), Err(CorpusError::NoColumn { .. })));
}

#[test]
fn a_damaged_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.parquet");
    table(&path, vec![("a", strings(&["what"])), ("b", strings(&["x"]))]);
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\xffPAR1"] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(open(&path), Err(CorpusError::Parquet { .. })));
    }
}
