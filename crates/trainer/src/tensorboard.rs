//! Scalars as a TensorBoard event file: length-prefixed records with masked CRC-32C, each an `Event` protobuf.
//!
//! Only what TensorBoard's scalar page needs: wall time, step, tag, value. The layout is that of TFRecord and of
//! tensorflow/core/util/event.proto (Event: 1 wall_time, 2 step, 3 file_version, 5 summary; Value: 1 tag, 2 simple_value).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

pub(crate) struct Scalars {
    file: BufWriter<File>,
}

impl Scalars {
    /// A new event file in `folder`; TensorBoard merges all files of a folder.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join(format!("events.out.tfevents.{:.6}.dredge", now()));
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let mut scalars = Self { file: BufWriter::new(file) };
        let mut event = Vec::new();
        double(&mut event, 1, now());
        bytes(&mut event, 3, b"brain.Event:2");
        scalars.record(&event)?;
        Ok(scalars)
    }

    pub(crate) fn add(&mut self, tag: &str, step: usize, value: f32) -> Result<()> {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, tag.as_bytes());
        key(&mut entry, 2, 5);
        entry.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        bytes(&mut summary, 1, &entry);
        let mut event = Vec::new();
        double(&mut event, 1, now());
        key(&mut event, 2, 0);
        varint(&mut event, step as u64);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file.flush().context("writing the TensorBoard event file")
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut write = || -> std::io::Result<()> {
            self.file.write_all(&length)?;
            self.file.write_all(&masked_crc(&length).to_le_bytes())?;
            self.file.write_all(data)?;
            self.file.write_all(&masked_crc(data).to_le_bytes())
        };
        write().context("writing the TensorBoard event file")
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn key(into: &mut Vec<u8>, field: u64, wire: u64) {
    varint(into, field << 3 | wire);
}

fn bytes(into: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(into, field, 2);
    varint(into, value.len() as u64);
    into.extend(value);
}

fn double(into: &mut Vec<u8>, field: u64, value: f64) {
    key(into, field, 1);
    into.extend(value.to_le_bytes());
}

/// CRC-32C (Castagnoli, reflected), masked as TFRecord asks for.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_castagnolis() {
        // The check value of CRC-32C: "123456789" gives e3069283.
        let unmasked = masked_crc(b"123456789").wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
    }

    #[test]
    fn varints_are_seven_bits_a_byte() {
        let mut bytes = Vec::new();
        varint(&mut bytes, 300);
        assert_eq!(bytes, [0xac, 0x02]);
    }
}
