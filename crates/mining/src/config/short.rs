//! What becomes of a row with fewer candidates than a visit asks for: a word, or `{ fill = "beyond", from = 51, until = 1000 }`.

use serde::{Deserialize, Serialize};

/// What becomes of a row with fewer candidates than asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Short {
    /// It serves what there is.
    #[default]
    Fewer,
    /// It serves nothing.
    Drop,
    /// Random documents fill it, tagged as such.
    Random,
    /// Documents of deeper ranks fill it, drawn uniformly at the refresh, tagged as fill. Only judgments and copies are kept out of them, as
    /// in RocketQA (Qu et al. 2021, arXiv 2010.08191), whose fill is not denoised either. The source must be deep enough.
    Beyond {
        /// First rank that may fill.
        from: usize,
        /// Last rank that may fill.
        until: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"fewer\", \"drop\", \"random\" or { fill = \"beyond\", from = RANK, until = RANK }")]
enum Written {
    Word(Word),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Fewer,
    Drop,
    Random,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    fill: Fill,
    from: usize,
    until: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fill {
    Beyond,
}

impl From<Written> for Short {
    fn from(written: Written) -> Self {
        match written {
            Written::Word(Word::Fewer) => Self::Fewer,
            Written::Word(Word::Drop) => Self::Drop,
            Written::Word(Word::Random) => Self::Random,
            Written::Table(Table { fill: Fill::Beyond, from, until }) => Self::Beyond { from, until },
        }
    }
}

impl From<Short> for Written {
    fn from(short: Short) -> Self {
        match short {
            Short::Fewer => Self::Word(Word::Fewer),
            Short::Drop => Self::Word(Word::Drop),
            Short::Random => Self::Word(Word::Random),
            Short::Beyond { from, until } => Self::Table(Table { fill: Fill::Beyond, from, until }),
        }
    }
}
