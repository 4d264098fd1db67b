//! An append-only arena of texts with dense `u32` ids.
//!
//! Texts lie back to back in chunks that are never moved nor reallocated, so a growing corpus costs its bytes once:
//! there is no moment at which old and new copy both exist. A text costs its bytes plus one `u64` (its start).
//! The table from external ids to these dense ids is `records.rs`.
//!
//! Invariant: a text never crosses a chunk, hence every text is one contiguous `&str`.

/// Bytes of a full chunk. A longer text gets a chunk of its own.
const CHUNK: usize = 4 << 20;
/// Bytes of the first chunk: small collections stay small.
const FIRST_CHUNK: usize = 4 << 10;
/// Starts per page, a power of two: the list of starts grows without moving either.
const PAGE: usize = 1 << 16;

/// Append-only storage of texts; the id of a text is the number of texts pushed before it.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    chunks: Vec<String>,
    /// Chunk number in the upper, offset inside the chunk in the lower 32 bits, one per text, in pages of `PAGE`.
    starts: Vec<Vec<u64>>,
    len: usize,
    bytes: usize,
}

impl Texts {
    /// An arena without texts; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `text` and returns its id.
    ///
    /// # Panics
    /// When `u32::MAX` texts are already held. Readers check the count before they come here.
    pub fn push(&mut self, text: &str) -> u32 {
        assert!(self.has_room(), "an arena holds at most {} texts", u32::MAX);
        let fits = self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= text.len());
        if !fits {
            if let Some(full) = self.chunks.last_mut() {
                full.shrink_to_fit();
            }
            // As large as everything before it: capacity at most doubles the bytes held, up to one full chunk.
            let capacity = self.bytes.clamp(FIRST_CHUNK, CHUNK).max(text.len());
            self.chunks.push(String::with_capacity(capacity));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let start = ((number as u64) << 32) | chunk.len() as u64;
        chunk.push_str(text);
        self.bytes += text.len();

        if self.len.is_multiple_of(PAGE) {
            // Only the first page may turn out nearly empty, so only it starts small.
            let capacity = if self.len == 0 { 0 } else { PAGE };
            self.starts.push(Vec::with_capacity(capacity));
        }
        self.starts[self.len / PAGE].push(start);
        self.len += 1;
        (self.len - 1) as u32
    }

    /// The text with this id.
    ///
    /// # Panics
    /// When no text has this id, as indexing a slice does.
    pub fn get(&self, id: u32) -> &str {
        let index = id as usize;
        assert!(index < self.len, "text {index} of an arena of {}", self.len);
        let (number, start) = self.start(index);
        let chunk = &self.chunks[number];
        let end = match index + 1 {
            next if next < self.len => {
                let (next_number, next_start) = self.start(next);
                if next_number == number { next_start } else { chunk.len() }
            }
            _ => chunk.len(),
        };
        &chunk[start..end]
    }

    fn start(&self, index: usize) -> (usize, usize) {
        let start = self.starts[index / PAGE][index % PAGE];
        ((start >> 32) as usize, (start & u64::from(u32::MAX)) as usize)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether one more text can be pushed (ids are `u32`).
    pub fn has_room(&self) -> bool {
        self.len < u32::MAX as usize
    }

    /// All texts in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len as u32).map(|id| self.get(id))
    }

    /// Bytes of text held, without any bookkeeping.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of heap held: text, spare room and bookkeeping.
    pub fn memory(&self) -> usize {
        let text: usize = self.chunks.iter().map(String::capacity).sum();
        let starts: usize = self.starts.iter().map(|page| page.capacity() * size_of::<u64>()).sum();
        text + starts + self.chunks.capacity() * size_of::<String>() + self.starts.capacity() * size_of::<Vec<u64>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_in_order_across_chunks_and_pages() {
        let mut texts = Texts::new();
        let text = |i: usize| format!("{i}:{}", "x".repeat(i % 300));
        for i in 0..PAGE + 5000 {
            assert_eq!(texts.push(&text(i)), i as u32);
        }
        assert!(texts.chunks.len() > 3, "the case should cross chunks");
        for (i, held) in texts.iter().enumerate() {
            assert_eq!(held, text(i));
        }
        assert_eq!(texts.bytes(), texts.iter().map(str::len).sum::<usize>());
    }

    #[test]
    fn empty_and_oversized_texts_are_kept() {
        let mut texts = Texts::new();
        let long = "é".repeat(CHUNK);
        let pushed = ["", "a", &long, "", "b", ""];
        for text in pushed {
            texts.push(text);
        }
        assert_eq!(texts.iter().collect::<Vec<_>>(), pushed);
        assert_eq!(texts.len(), pushed.len());
    }

    #[test]
    fn growing_never_moves_a_chunk() {
        let mut texts = Texts::new();
        for i in 0..50_000 {
            texts.push(&format!("text number {i}"));
        }
        let first = texts.get(0).as_ptr();
        for i in 0..50_000 {
            texts.push(&format!("text number {i}"));
        }
        assert_eq!(texts.get(0).as_ptr(), first);
    }
}
