//! The file format of evidence: blocks with a checksum each and a chain of hashes through all of them.
//!
//! A segment is the magic [`MAGIC`] and then blocks. A block is, little endian, the length of its body
//! (4 bytes), the CRC-32 over kind, link and body (4), its kind (1), its link (16) and the body. A link is
//! the first 16 bytes of SHA-256 over the link before it, the kind, the length and the body; before the
//! first block of a segment stands the last link of the segment before. So accidents break a checksum,
//! edits break the chain, and since a block is checked against the link that is *written* before it, the
//! blocks after a broken one can still be told apart from it.
//!
//! Nothing here reads a file; the bytes may be anything at all.

use sha2::{Digest, Sha256};

use crate::names::named_enum;

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"RSPPSEG1";
/// Longest body of a block, bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Bytes of a block before its body.
pub const BLOCK_HEAD: usize = 25;
/// Bytes of a link.
pub const LINK: usize = 16;

const LINK_AT: usize = 9;
/// How often, in lengths of the file, bytes are summed in search of the next whole block.
const SEARCH_SHARE: usize = 4;

/// A link of the chain.
pub type Link = [u8; LINK];

named_enum! {
    /// What a block holds; its number is its position here and from 1.
    pub enum BlockKind {
        Header => "header", Records => "records", Seal => "seal",
    }
}

impl BlockKind {
    /// The number in the file.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The kind of that number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number.checked_sub(1)?)).copied()
    }
}

named_enum! {
    /// What can be wrong with a recording; the last three are found by who reads bodies and folders.
    pub enum DamageCode {
        NotASegment => "not_a_segment", Torn => "torn", ChecksumMismatch => "checksum_mismatch",
        ChainBroken => "chain_broken", OversizedBlock => "oversized_block",
        UnknownKind => "unknown_kind", MalformedRecords => "malformed_records",
        SegmentMissing => "segment_missing", SegmentReplaced => "segment_replaced",
    }
}

/// One thing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What.
    pub code: DamageCode,
    /// Where its block begins in the file, bytes.
    pub offset: usize,
    /// Number of the block from 0.
    pub block: usize,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the file, bytes.
    pub offset: usize,
    /// Number of its kind.
    pub kind: u8,
    /// Where its body begins.
    pub body_start: usize,
    /// Where its body ends.
    pub body_end: usize,
    /// Whether checksum, chain and kind are right.
    pub sound: bool,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Its blocks, as far as they have both ends; empty when they were not asked for.
    pub blocks: Vec<Block>,
    /// What is wrong, in the order of the file.
    pub damage: Vec<Damage>,
    /// Link of the last block whose checksum is right; what came before the segment when none is.
    pub link: Link,
    /// Blocks whose checksum is right.
    pub whole: usize,
    /// Whether the last block says that the segment was closed in order.
    pub sealed: bool,
}

/// A body is longer than [`MAX_BODY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooLong(pub usize);

/// The writing end of the chain.
#[derive(Clone, Debug)]
pub struct Chain {
    link: Link,
    blocks: u64,
}

impl Chain {
    /// A chain that goes on after `previous`; zeros where nothing came before.
    #[must_use]
    pub const fn new(previous: Link) -> Self {
        Self::resumed(previous, 0)
    }

    /// A chain that stands behind its block number `blocks`, whose link is `link`.
    #[must_use]
    pub const fn resumed(link: Link, blocks: u64) -> Self {
        Self { link, blocks }
    }

    /// The latest link.
    #[must_use]
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Blocks framed so far.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Appends the block of `body` to `out`.
    ///
    /// # Errors
    ///
    /// When the body is longer than [`MAX_BODY`]; the chain stays as it was.
    pub fn frame(&mut self, kind: BlockKind, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyTooLong> {
        if body.len() > MAX_BODY {
            return Err(BodyTooLong(body.len()));
        }
        self.link = link_after(&self.link, kind.number(), body);
        self.blocks += 1;
        out.reserve(BLOCK_HEAD + body.len());
        out.extend_from_slice(&length_of(body).to_le_bytes());
        out.extend_from_slice(&checksum(kind.number(), &self.link, body).to_le_bytes());
        out.push(kind.number());
        out.extend_from_slice(&self.link);
        out.extend_from_slice(body);
        Ok(())
    }
}

/// Finds the blocks of a segment and what is wrong with it.
///
/// # Arguments
///
/// * `previous`: link that the first block must follow; without it that one is taken as it is.
/// * `keep`: whether to list the blocks.
#[must_use]
pub fn scan(data: &[u8], previous: Option<Link>, keep: bool) -> Scan {
    Scanner::new(data, previous, keep).run()
}

/// The link that follows `previous`.
#[must_use]
pub fn link_after(previous: &Link, kind: u8, body: &[u8]) -> Link {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update([kind]);
    hash.update(length_of(body).to_le_bytes());
    hash.update(body);
    let mut link = [0; LINK];
    link.copy_from_slice(&hash.finalize()[..LINK]);
    link
}

fn length_of(body: &[u8]) -> u32 {
    // A body never exceeds MAX_BODY.
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

fn checksum(kind: u8, link: &Link, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[kind]);
    sum.update(link);
    sum.update(body);
    sum.finalize()
}

/// A block as it stands in the file, believed in nothing yet.
#[derive(Clone, Copy)]
struct Raw<'a> {
    length: usize,
    sum: u32,
    kind: u8,
    link: Link,
    /// None when the file ends before it does or the length is beyond all bounds.
    body: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    fn at(data: &'a [u8], offset: usize) -> Option<Self> {
        let rest = data.get(offset..)?;
        let head = rest.get(..BLOCK_HEAD)?;
        let length = u32::from_le_bytes(head[0..4].try_into().ok()?) as usize;
        let body = if length <= MAX_BODY { rest.get(BLOCK_HEAD..BLOCK_HEAD + length) } else { None };
        Some(Self {
            length,
            sum: u32::from_le_bytes(head[4..8].try_into().ok()?),
            kind: head[8],
            link: head[LINK_AT..BLOCK_HEAD].try_into().ok()?,
            body,
        })
    }

    fn whole(&self) -> bool {
        self.body.is_some_and(|body| checksum(self.kind, &self.link, body) == self.sum)
    }
}

struct Scanner<'a> {
    data: &'a [u8],
    keep: bool,
    found: Scan,
    /// Links that the next block may follow: the one written before it and, where that is in doubt, the
    /// one that its block should have had.
    before: [Option<Link>; 2],
    number: usize,
    budget: usize,
}

impl<'a> Scanner<'a> {
    fn new(data: &'a [u8], previous: Option<Link>, keep: bool) -> Self {
        let found = Scan { link: previous.unwrap_or_default(), ..Scan::default() };
        let budget = data.len().saturating_mul(SEARCH_SHARE);
        Self { data, keep, found, before: [previous, None], number: 0, budget }
    }

    fn run(mut self) -> Scan {
        let given = self.data.len().min(MAGIC.len());
        if self.data[..given] != MAGIC[..given] {
            self.damaged(DamageCode::NotASegment, 0);
            // Something that never was a segment is not searched for blocks.
            if !Raw::at(self.data, MAGIC.len()).is_some_and(|raw| raw.whole()) {
                return self.found;
            }
        } else if given < MAGIC.len() {
            self.damaged(DamageCode::Torn, 0);
            return self.found;
        }
        let mut offset = MAGIC.len();
        while offset < self.data.len() {
            match self.block(offset) {
                Some(next) => offset = next,
                None => break,
            }
            self.number += 1;
        }
        self.found
    }

    /// Takes the block at `offset`; returns where to go on.
    fn block(&mut self, offset: usize) -> Option<usize> {
        let Some(raw) = Raw::at(self.data, offset) else {
            self.damaged(DamageCode::Torn, offset);
            return None;
        };
        let Some(body) = raw.body.filter(|_| raw.whole()) else {
            return self.broken(offset, &raw);
        };
        let expected = self.before.map(|link| link.map(|link| link_after(&link, raw.kind, body)));
        let mut chained = expected == [None, None] || expected.contains(&Some(raw.link));
        if self.found.sealed {
            // A seal is the last block: whatever follows was put there later.
            chained = false;
        }
        if !chained {
            self.damaged(DamageCode::ChainBroken, offset);
        }
        let kind = BlockKind::of(raw.kind);
        if kind.is_none() {
            self.damaged(DamageCode::UnknownKind, offset);
        }
        self.keep_block(offset, &raw, body.len(), chained && kind.is_some());
        self.before = [Some(raw.link), None];
        self.found.link = raw.link;
        self.found.whole += 1;
        self.found.sealed = kind == Some(BlockKind::Seal);
        Some(offset + BLOCK_HEAD + body.len())
    }

    /// Names a block whose bytes are not what was written, and finds the one after it.
    fn broken(&mut self, offset: usize, raw: &Raw<'_>) -> Option<usize> {
        let natural = raw.body.map(|body| offset + BLOCK_HEAD + body.len());
        let next = match natural {
            Some(end) if end == self.data.len() || self.whole_at(end) => Some(end),
            _ => self.search(offset + 1),
        };
        let blank = self.data[offset..].iter().take(BLOCK_HEAD).all(|byte| *byte == 0);
        let code = match (natural, next) {
            (_, None) if blank => DamageCode::Torn,
            (None, _) if raw.length > MAX_BODY => DamageCode::OversizedBlock,
            (Some(_), _) | (None, Some(_)) => DamageCode::ChecksumMismatch,
            (None, None) => DamageCode::Torn,
        };
        self.damaged(code, offset);
        if let Some(body) = raw.body {
            self.keep_block(offset, raw, body.len(), false);
        }
        // The edit may be in the link or beside it; the next block tells which by following one of them.
        let predecessor = self.before[0];
        let computed = raw.body.and_then(|body| predecessor.map(|link| link_after(&link, raw.kind, body)));
        self.before = [Some(raw.link), computed];
        self.found.sealed = false;
        match (next, natural) {
            (Some(next), _) => Some(next),
            (None, Some(end)) if code == DamageCode::ChecksumMismatch => {
                self.number += 1;
                self.damaged(DamageCode::Torn, end);
                None
            }
            _ => None,
        }
    }

    fn whole_at(&mut self, offset: usize) -> bool {
        let Some(raw) = Raw::at(self.data, offset) else {
            return false;
        };
        let cost = BLOCK_HEAD + raw.body.map_or(0, <[u8]>::len);
        if BlockKind::of(raw.kind).is_none() || raw.body.is_none() || cost > self.budget {
            return false;
        }
        self.budget -= cost;
        raw.whole()
    }

    /// Where the next whole block begins, as far as the budget allows to search.
    fn search(&mut self, from: usize) -> Option<usize> {
        let last = self.data.len().checked_sub(BLOCK_HEAD)?;
        (from..=last).find(|offset| self.whole_at(*offset))
    }

    fn damaged(&mut self, code: DamageCode, offset: usize) {
        self.found.damage.push(Damage { code, offset, block: self.number });
    }

    fn keep_block(&mut self, offset: usize, raw: &Raw<'_>, length: usize, sound: bool) {
        if self.keep {
            let body_start = offset + BLOCK_HEAD;
            let body_end = body_start + length;
            self.found.blocks.push(Block { offset, kind: raw.kind, body_start, body_end, sound });
        }
    }
}
