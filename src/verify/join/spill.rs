//! Blocks of bytes on disk, in a file without a name.
//!
//! The file is unlinked as soon as it is open, so that nothing is left however the process ends. Blocks have one size
//! and are used again, so that the file never grows beyond what is in use at once. They are written and read by plain
//! blocking calls: each is a copy to or from the page cache of tens of kilobytes, far shorter than the scan of a page.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::Error;

/// The file.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    dir: PathBuf,
    block_bytes: usize,
    limit_bytes: u64,
    /// Blocks of the file that hold nothing.
    free: Vec<u32>,
    /// Blocks in the file.
    blocks: u32,
}

/// A block that holds `len` bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    index: u32,
    len: u32,
}

// === impl Block ===

impl Block {
    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

// === impl Spill ===

impl Spill {
    /// A file in `dir` of at most `limit_bytes`, in blocks of `block_bytes`.
    pub(super) fn new(dir: PathBuf, block_bytes: usize, limit_bytes: u64) -> Result<Self, Error> {
        let file = tempfile::tempfile_in(&dir).map_err(|source| Error::Disk { dir: dir.clone(), source })?;
        Ok(Self { file, dir, block_bytes, limit_bytes, free: Vec::new(), blocks: 0 })
    }

    /// Bytes that fit into a block.
    pub(super) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// The greatest size that the file had.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.blocks) * self.block_bytes as u64
    }

    /// Writes at most a block of bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Block, Error> {
        debug_assert!(bytes.len() <= self.block_bytes);
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        self.file.write_all_at(bytes, self.offset(index)).map_err(|source| self.failed(source))?;
        Ok(Block { index, len: bytes.len() as u32 })
    }

    /// Adds the block's bytes to `out`, and frees it.
    pub(super) fn take(&mut self, block: Block, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.resize(start + block.len as usize, 0);
        let read = self.file.read_exact_at(&mut out[start..], self.offset(block.index));
        read.map_err(|source| self.failed(source))?;
        self.free(block);
        Ok(())
    }

    /// The block is not needed any more.
    pub(super) fn free(&mut self, block: Block) {
        self.free.push(block.index);
    }

    fn grow(&mut self) -> Result<u32, Error> {
        if self.bytes() + self.block_bytes as u64 > self.limit_bytes {
            return Err(Error::Full { dir: self.dir.clone(), limit_bytes: self.limit_bytes });
        }
        let index = self.blocks;
        self.blocks = index.checked_add(1).ok_or_else(|| self.failed(io::ErrorKind::FileTooLarge.into()))?;
        Ok(index)
    }

    fn offset(&self, index: u32) -> u64 {
        u64::from(index) * self.block_bytes as u64
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Disk { dir: self.dir.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_and_the_file_has_no_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spill = Spill::new(dir.path().to_owned(), 4, 8).expect("a file");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
        let first = spill.write(b"abcd").expect("room");
        let second = spill.write(b"ef").expect("room");
        let error = spill.write(b"g").expect_err("no room");
        assert!(matches!(error, Error::Full { limit_bytes: 8, .. }), "{error}");
        let mut bytes = Vec::new();
        spill.take(first, &mut bytes).expect("read");
        let third = spill.write(b"hij").expect("room again");
        spill.take(second, &mut bytes).expect("read");
        spill.take(third, &mut bytes).expect("read");
        assert_eq!(bytes, b"abcdefhij");
        assert_eq!(spill.bytes(), 8);
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let error = Spill::new("/nonexistent/of/course".into(), 4, 8).expect_err("no such directory");
        assert!(error.to_string().contains("/nonexistent/of/course"), "{error}");
    }
}
