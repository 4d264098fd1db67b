//! Parquet, in the layouts of the Hugging Face hub.
//!
//! A folder with corpus, queries and qrels (each `<part>.parquet`, `<part>-….parquet` or a sub-folder `<part>/`; qrels also
//! under `default/` or `data/`, one split per file name), or files of training columns (see `layout.rs`), where list cells
//! hold several positives or negatives. Only the columns needed are decoded. Places in messages are file and row.

use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use ::parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, SchemaRef},
    error::ArrowError,
};

use super::{
    entry::{JudgmentRows, joined, push},
    folder::{Folder, split_among, split_of, without_shard},
    inline::Inline,
    layout::{Cell, Layout},
    roles::{Holds, RENAME, Unfit},
    sink::Sink,
    unknown,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Place, Side},
    records::Records,
};

const MAGIC: &[u8] = b"PAR1";
const ROWS_PER_BATCH: usize = 1024;

const RECORD_IDS: &[&str] = &["_id", "id", "docid", "doc_id", "pid", "corpus-id", "corpus_id", "query-id", "query_id", "qid"];
const TEXTS: &[&str] = &["text", "contents", "passage", "query"];
const TITLES: &[&str] = &["title"];
const QUERY_IDS: &[&str] = &["query-id", "query_id", "qid"];
const DOCUMENT_IDS: &[&str] = &["corpus-id", "corpus_id", "docid", "doc_id", "pid", "document_id"];
const GRADES: &[&str] = &["score", "relevance", "rel", "label"];

/// Whether a file starts as parquet files do.
pub(super) fn is_parquet(path: &Path) -> Result<bool, CorpusError> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(CorpusError::io(path))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(CorpusError::io(path))?;
    Ok(start == MAGIC)
}

/// Opens a folder that holds parquet files, `None` when it holds none.
pub(super) fn open_folder(folder: &Folder) -> Result<Option<Collection>, CorpusError> {
    let (corpus, queries) = (part(folder, "corpus")?, part(folder, "queries")?);
    if !corpus.is_empty() && !queries.is_empty() {
        let mut qrels = Vec::new();
        for name in ["qrels", "default", "data"] {
            if qrels.is_empty() {
                qrels = part(folder, name)?;
            }
        }
        return open_hub(folder.path(), &corpus, &queries, &qrels).map(Some);
    }
    // Alone it would be taken for training rows: titles as queries, texts as their positives.
    if let Some((_, path)) = corpus.first() {
        let nearest = "nearest is a folder of the hub, which lacks queries.parquet (or a folder queries/) beside it";
        return Err(unknown(path, "a corpus as parquet".to_owned(), nearest.to_owned()));
    }
    let mut files = folder.with_extension(&["parquet"]);
    files.extend(folder.inside("data")?.with_extension(&["parquet"]));
    if files.is_empty() { Ok(None) } else { open_columns(&files).map(Some) }
}

/// Files of one part, as `(what the name adds to the part's, path)`.
fn part(folder: &Folder, name: &str) -> Result<Vec<(String, PathBuf)>, CorpusError> {
    let mut files = Vec::new();
    for (stem, path) in folder.with_extension(&["parquet"]) {
        if let Some(rest) = stem.strip_prefix(name)
            && (rest.is_empty() || rest.starts_with(['-', '.', '_']))
        {
            files.push((rest.get(1..).unwrap_or_default().to_owned(), path));
        }
    }
    files.extend(folder.inside(name)?.with_extension(&["parquet"]));
    Ok(files)
}

fn open_hub(
    path: &Path,
    corpus: &[(String, PathBuf)],
    queries: &[(String, PathBuf)],
    qrels: &[(String, PathBuf)],
) -> Result<Collection, CorpusError> {
    let mut collection = Collection::default();
    records(corpus, Side::Document, &mut collection.documents)?;
    records(queries, Side::Query, &mut collection.queries)?;

    let mut splits: Vec<(String, Vec<&Path>)> = Vec::new();
    for (stem, path) in qrels {
        let split = match without_shard(stem) {
            "" => "test",
            split => split_among(split, qrels.iter().map(|(stem, _)| without_shard(stem))),
        };
        match splits.iter_mut().find(|(known, _)| known == split) {
            Some((_, paths)) => paths.push(path),
            None => splits.push((split.to_owned(), vec![path])),
        }
    }
    for (split, paths) in splits {
        let mut rows = JudgmentRows::new(&collection.queries, &collection.documents);
        for path in paths {
            rows.begin(path)?;
            judgments(path, &mut rows)?;
        }
        let judgments = rows.finish()?;
        collection.splits.insert(split, judgments);
    }
    if collection.splits.is_empty() {
        collection.notes.push(format!("{} has no qrels: there is nothing to train on or to evaluate", path.display()));
    }
    Ok(collection)
}

fn records(files: &[(String, PathBuf)], side: Side, records: &mut Records) -> Result<(), CorpusError> {
    let mut scratch = String::new();
    for (_, path) in files {
        let titles = if side == Side::Document { TITLES } else { &[] };
        let mut table = Table::open(path, &[("an id", RECORD_IDS), ("a text", TEXTS)], titles)?;
        while let Some(batch) = table.next()? {
            let columns = batch.columns.iter().map(|column| batch.strings(column)).collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.rows {
                let title = columns.get(2).map_or("", |column| text_at(column, row));
                let text = joined(&mut scratch, title, text_at(&columns[1], row));
                push(records, side, text_at(&columns[0], row), text, || batch.place(row))?;
            }
        }
    }
    match files.first() {
        Some((_, path)) if records.is_empty() => Err(CorpusError::EmptyFile { path: path.clone(), expected: "rows with an id and a text" }),
        _ => Ok(()),
    }
}

fn judgments(path: &Path, rows: &mut JudgmentRows<'_>) -> Result<(), CorpusError> {
    let wanted = [("a query id", QUERY_IDS), ("a document id", DOCUMENT_IDS), ("a grade", GRADES)];
    let mut table = Table::open(path, &wanted, &[])?;
    while let Some(batch) = table.next()? {
        let queries = batch.strings(&batch.columns[0])?;
        let documents = batch.strings(&batch.columns[1])?;
        let grades = batch.cast(&batch.columns[2], &DataType::Float64)?;
        let grades = grades.as_primitive::<Float64Type>();
        for row in 0..batch.rows {
            let grade = grades.value(row);
            if grades.is_null(row) || grade.fract() != 0.0 || grade.abs() > f64::from(i32::MAX) {
                let got = if grades.is_null(row) { "null".to_owned() } else { grade.to_string() };
                return Err(CorpusError::Grade { place: batch.place(row), got });
            }
            rows.push(batch.place(row).line, text_at(&queries, row), text_at(&documents, row), grade as i32);
        }
    }
    Ok(())
}

/// Opens files of training columns.
pub(super) fn open_columns(files: &[(String, PathBuf)]) -> Result<Collection, CorpusError> {
    let mut inline = Inline::new();
    let mut rows = 0;
    for (stem, path) in files {
        inline.begin(path, split_of(stem));
        rows += training_columns(path, &mut inline)?;
    }
    match files.first() {
        Some((_, path)) if rows == 0 => Err(CorpusError::EmptyFile { path: path.clone(), expected: "rows with a query and a positive" }),
        _ => Ok(inline.finish()),
    }
}

/// Reads one file of training columns; the number of its rows.
pub(super) fn training_columns(path: &Path, sink: &mut impl Sink) -> Result<usize, CorpusError> {
    let mut table = Table::open_all(path)?;
    let schema = Arc::clone(&table.schema);
    let columns: Vec<(&str, Holds)> =
        schema.fields().iter().map(|field| (field.name().as_str(), Kind::of(field.data_type()).holds())).collect();
    let layout = Layout::of(&columns).map_err(|unfit| match unfit {
        Unfit::TooFew(found) => CorpusError::NoColumn { path: path.to_owned(), wanted: "a query and a positive".into(), found },
        Unfit::Unclear(problem) => CorpusError::UnclearColumns { path: path.to_owned(), problem, expected: RENAME },
    })?;
    layout.report(path, sink);
    let mut rows = 0;
    while let Some(batch) = table.next()? {
        let decoded = batch
            .columns
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| {
                let kind = Kind::of(field.data_type());
                batch.cast(column, &kind.decoded()).map(|column| (kind, column))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.rows {
            let cells: Vec<Cell<'_>> = decoded.iter().map(|(kind, column)| kind.cell(column, row)).collect();
            layout.enter(&cells, sink, || batch.place(row))?;
        }
        rows += batch.rows;
    }
    Ok(rows)
}

/// What a column of training data holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Texts,
    Number,
    Numbers,
    Other,
}

impl Kind {
    fn of(data: &DataType) -> Self {
        match data {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => match Self::of(field.data_type()) {
                Self::Text => Self::Texts,
                Self::Number => Self::Numbers,
                _ => Self::Other,
            },
            data if data.is_numeric() || *data == DataType::Boolean => Self::Number,
            _ => Self::Other,
        }
    }

    fn holds(self) -> Holds {
        if matches!(self, Self::Text | Self::Texts) { Holds::Text } else { Holds::Other }
    }

    /// The one type that a column of this kind is brought to.
    fn decoded(self) -> DataType {
        let list = |item| DataType::LargeList(Arc::new(Field::new("item", item, true)));
        match self {
            Self::Text => DataType::LargeUtf8,
            Self::Texts => list(DataType::LargeUtf8),
            Self::Number => DataType::Float64,
            Self::Numbers => list(DataType::Float64),
            Self::Other => DataType::Null,
        }
    }

    fn cell(self, column: &ArrayRef, row: usize) -> Cell<'_> {
        if self == Self::Other {
            return Cell::Other;
        }
        if column.is_null(row) {
            return Cell::Absent;
        }
        match self {
            Self::Text => Cell::Text(Cow::Borrowed(text_at(column, row))),
            Self::Texts => {
                let (values, range) = list_at(column, row);
                Cell::Texts(range.filter(|&at| values.is_valid(at)).map(|at| Cow::Borrowed(text_at(values, at))).collect())
            }
            Self::Number => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
            Self::Numbers => {
                let (values, range) = list_at(column, row);
                let numbers = values.as_primitive::<Float64Type>();
                Cell::Numbers(range.map(|at| if numbers.is_null(at) { f64::NAN } else { numbers.value(at) }).collect())
            }
            Self::Other => Cell::Other,
        }
    }
}

fn text_at(column: &ArrayRef, row: usize) -> &str {
    if column.is_null(row) { "" } else { column.as_string::<i64>().value(row) }
}

fn list_at(column: &ArrayRef, row: usize) -> (&ArrayRef, std::ops::Range<usize>) {
    let list = column.as_list::<i64>();
    let offsets = list.value_offsets();
    (list.values(), offsets[row] as usize..offsets[row + 1] as usize)
}

/// Some columns of a parquet file, batch by batch.
struct Table {
    path: PathBuf,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
    /// Positions in a batch of the columns asked for, in the order asked.
    order: Vec<usize>,
    rows_before: u64,
}

struct Batch {
    path: PathBuf,
    columns: Vec<ArrayRef>,
    rows: usize,
    rows_before: u64,
}

impl Table {
    /// The first column found of each of `wanted` (description, names), then of `optional` if there is one.
    fn open(path: &Path, wanted: &[(&str, &[&str])], optional: &[&str]) -> Result<Self, CorpusError> {
        let builder = builder(path)?;
        let schema = Arc::clone(builder.schema());
        let find = |names: &[&str]| names.iter().find_map(|name| schema.fields().iter().position(|field| field.name() == name));
        let mut chosen = Vec::new();
        for (what, names) in wanted {
            chosen.push(find(names).ok_or_else(|| CorpusError::NoColumn {
                path: path.to_owned(),
                wanted: format!("{what} ({})", names.join(", ")),
                found: schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "),
            })?);
        }
        chosen.extend(find(optional));
        let mask = ProjectionMask::roots(builder.parquet_schema(), chosen.iter().copied());
        // A projected batch keeps the order of the file, and a column chosen twice stands in it once.
        let mut in_file = chosen.clone();
        in_file.sort_unstable();
        in_file.dedup();
        let order = chosen.iter().map(|column| in_file.partition_point(|other| other < column)).collect();
        Self::build(path, schema, builder.with_projection(mask), order)
    }

    fn open_all(path: &Path) -> Result<Self, CorpusError> {
        let builder = builder(path)?;
        let schema = Arc::clone(builder.schema());
        let order = (0..schema.fields().len()).collect();
        Self::build(path, schema, builder, order)
    }

    fn build(
        path: &Path,
        schema: SchemaRef,
        builder: ParquetRecordBatchReaderBuilder<File>,
        order: Vec<usize>,
    ) -> Result<Self, CorpusError> {
        let reader = guarded(path, || builder.with_batch_size(ROWS_PER_BATCH).build())?;
        Ok(Self { path: path.to_owned(), schema, reader, order, rows_before: 0 })
    }

    fn next(&mut self) -> Result<Option<Batch>, CorpusError> {
        let reader = &mut self.reader;
        let batch: Option<RecordBatch> = guarded(&self.path, || reader.next().transpose())?;
        let Some(batch) = batch else { return Ok(None) };
        let rows_before = self.rows_before;
        self.rows_before += batch.num_rows() as u64;
        Ok(Some(Batch {
            path: self.path.clone(),
            columns: self.order.iter().map(|&column| Arc::clone(batch.column(column))).collect(),
            rows: batch.num_rows(),
            rows_before,
        }))
    }
}

impl Batch {
    fn place(&self, row: usize) -> Place {
        Place::new(&self.path, self.rows_before + row as u64 + 1)
    }

    fn cast(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef, CorpusError> {
        if *to == DataType::Null {
            return Ok(Arc::clone(column));
        }
        guarded(&self.path, || cast(column, to))
    }

    fn strings(&self, column: &ArrayRef) -> Result<ArrayRef, CorpusError> {
        self.cast(column, &DataType::LargeUtf8)
    }
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, CorpusError> {
    let file = File::open(path).map_err(CorpusError::io(path))?;
    guarded(path, || ParquetRecordBatchReaderBuilder::try_new(file))
}

/// Runs a step of the parquet or arrow crates, which panic on some damaged files instead of returning an error.
fn guarded<T, E: Into<Fault>>(path: &Path, step: impl FnOnce() -> Result<T, E>) -> Result<T, CorpusError> {
    let reason = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.into().0,
        Err(_) => "the file is damaged (the parquet reader gave up)".to_owned(),
    };
    Err(CorpusError::Parquet { path: path.to_owned(), reason })
}

struct Fault(String);

impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        Self(error.to_string())
    }
}

impl From<::parquet::errors::ParquetError> for Fault {
    fn from(error: ::parquet::errors::ParquetError) -> Self {
        Self(error.to_string())
    }
}
