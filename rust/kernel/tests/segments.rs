//! Segments that went wrong: whatever happens to the bytes, nothing false is read and the place is named.

use proptest::prelude::*;
use rspp_kernel::evidence::segment::{
    link_after, scan, Block, BlockKind, BodyTooLong, Chain, DamageCode, Link, Scan, BLOCK_HEAD, LINK, MAGIC,
    MAX_BODY,
};

const BEFORE: Link = [7; LINK];

/// A whole segment of bodies of many lengths, an empty one and a long one among them.
fn segment(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut chain = Chain::new(BEFORE);
    let mut data = MAGIC.to_vec();
    assert_eq!(chain.frame(BlockKind::Header, b"header", &mut data), Ok(()));
    for body in bodies {
        assert_eq!(chain.frame(BlockKind::Records, body, &mut data), Ok(()));
    }
    assert_eq!(chain.frame(BlockKind::Seal, b"seal", &mut data), Ok(()));
    data
}

fn sample() -> Vec<u8> {
    let body = |length: usize, salt: usize| {
        (0..length)
            .map(|index| u8::try_from((index * 31 + salt * 17 + index / 7) % 256).unwrap_or(0))
            .collect()
    };
    segment(&[body(40, 1), body(0, 2), body(300, 3), body(1, 4), body(90, 5)])
}

fn places(data: &[u8]) -> Vec<Block> {
    let whole = scan(data, Some(BEFORE), true);
    assert_eq!(whole.damage, []);
    whole.blocks
}

fn codes(found: &Scan) -> Vec<DamageCode> {
    found.damage.iter().map(|damage| damage.code).collect()
}

#[test]
fn a_whole_segment_is_read_back_block_by_block() {
    let data = sample();
    let found = scan(&data, Some(BEFORE), true);
    assert_eq!((found.damage.len(), found.whole, found.sealed), (0, 7, true));
    assert!(found.blocks.iter().all(|block| block.sound));
    let kinds: Vec<u8> = found.blocks.iter().map(|block| block.kind).collect();
    assert_eq!(kinds, [1, 2, 2, 2, 2, 2, 3]);
    let first = found.blocks[0];
    assert_eq!(&data[first.body_start..first.body_end], b"header");
    assert_eq!(found.link, {
        let mut link = BEFORE;
        for block in &found.blocks {
            link = link_after(&link, block.kind, &data[block.body_start..block.body_end]);
        }
        link
    });
    let verified = scan(&data, Some(BEFORE), false);
    assert_eq!((verified.link, verified.whole, verified.blocks.len()), (found.link, 7, 0));
}

#[test]
fn a_cut_at_any_byte_loses_the_block_it_hits_and_no_other() {
    let data = sample();
    let blocks = places(&data);
    for end in 0..data.len() {
        let found = scan(&data[..end], Some(BEFORE), true);
        let kept = blocks.iter().take_while(|block| block.body_end <= end).count();
        assert_eq!(found.blocks, blocks[..kept], "cut at {end}");
        let between = end == MAGIC.len() || blocks.iter().any(|block| block.body_end == end);
        let expected = if between { vec![] } else { vec![DamageCode::Torn] };
        assert_eq!(codes(&found), expected, "cut at {end}");
        if let Some(damage) = found.damage.first() {
            assert_eq!(damage.block, kept, "cut at {end}");
        }
        assert!(!found.sealed);
    }
}

#[test]
fn an_edit_of_any_byte_is_found_where_it_is_and_nowhere_else() {
    let data = sample();
    let blocks = places(&data);
    for place in 0..data.len() {
        for flip in [0x01_u8, 0x80, 0xFF] {
            let mut edited = data.clone();
            edited[place] ^= flip;
            let found = scan(&edited, Some(BEFORE), true);
            assert_eq!(found.damage.len(), 1, "byte {place}, {flip:#x}: {:?}", found.damage);
            let hit = blocks.iter().position(|block| (block.offset..block.body_end).contains(&place));
            let damage = found.damage[0];
            match hit {
                None => assert_eq!((damage.code, damage.offset), (DamageCode::NotASegment, 0)),
                Some(hit) => assert_eq!(damage.offset, blocks[hit].offset, "byte {place}, {flip:#x}"),
            }
            let sound: Vec<Block> = found.blocks.iter().copied().filter(|block| block.sound).collect();
            let expected: Vec<Block> =
                blocks.iter().enumerate().filter(|(index, _)| Some(*index) != hit).map(|(_, b)| *b).collect();
            assert_eq!(sound, expected, "byte {place}, {flip:#x}");
        }
    }
}

#[test]
fn an_edit_that_mends_the_checksum_breaks_the_chain_there() {
    let data = sample();
    let blocks = places(&data);
    for (number, block) in blocks.iter().enumerate() {
        if block.body_start == block.body_end {
            continue;
        }
        let mut edited = data.clone();
        edited[block.body_start] ^= 1;
        mend(&mut edited, block);
        let found = scan(&edited, Some(BEFORE), true);
        assert_eq!(codes(&found), [DamageCode::ChainBroken]);
        assert_eq!((found.damage[0].block, found.damage[0].offset), (number, block.offset));
    }
}

#[test]
fn a_forger_who_mends_the_link_as_well_is_betrayed_by_the_next_block() {
    let data = sample();
    let blocks = places(&data);
    let (hit, next) = (blocks[3], blocks[4]);
    let mut edited = data;
    edited[hit.body_start] ^= 1;
    let before: Link = edited[blocks[2].offset + 9..blocks[2].body_start].try_into().unwrap_or(BEFORE);
    let link = link_after(&before, hit.kind, &edited[hit.body_start..hit.body_end]);
    edited[hit.offset + 9..hit.body_start].copy_from_slice(&link);
    mend(&mut edited, &hit);
    let found = scan(&edited, Some(BEFORE), true);
    assert_eq!(codes(&found), [DamageCode::ChainBroken]);
    assert_eq!(found.damage[0].offset, next.offset);
}

/// Puts the right checksum on a block.
fn mend(data: &mut [u8], block: &Block) {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&data[block.offset + 8..block.body_end]);
    data[block.offset + 4..block.offset + 8].copy_from_slice(&sum.finalize().to_le_bytes());
}

#[test]
fn a_block_that_is_taken_out_swapped_or_doubled_is_found() {
    let data = sample();
    let blocks = places(&data);
    let bytes = |number: usize| data[blocks[number].offset..blocks[number].body_end].to_vec();
    let build = |order: &[usize]| {
        let mut out = MAGIC.to_vec();
        for number in order {
            out.extend(bytes(*number));
        }
        out
    };
    for order in [&[0, 1, 3, 4, 5, 6][..], &[0, 1, 3, 2, 4, 5, 6], &[0, 1, 2, 2, 3, 4, 5, 6], &[1, 0, 2]] {
        let found = scan(&build(order), Some(BEFORE), true);
        assert!(!found.damage.is_empty(), "{order:?}");
        assert!(codes(&found).iter().all(|code| *code == DamageCode::ChainBroken), "{order:?}");
        let first = order.iter().enumerate().find(|(at, number)| at != *number).map(|(at, _)| at);
        assert_eq!(Some(found.damage[0].block), first, "{order:?}");
    }
}

#[test]
fn a_segment_that_follows_another_one_is_found_at_its_first_block() {
    let data = sample();
    let found = scan(&data, Some([8; LINK]), true);
    assert_eq!(codes(&found), [DamageCode::ChainBroken]);
    assert_eq!(found.damage[0].block, 0);
    assert_eq!(codes(&scan(&data, None, true)), []);
}

#[test]
fn nothing_may_stand_behind_a_seal() {
    let mut data = sample();
    let mut chain = Chain::resumed(scan(&data, None, false).link, 7);
    assert_eq!(chain.frame(BlockKind::Records, b"more", &mut data), Ok(()));
    let found = scan(&data, Some(BEFORE), true);
    assert_eq!(codes(&found), [DamageCode::ChainBroken]);
    assert_eq!((found.damage[0].block, found.sealed, chain.blocks()), (7, false, 8));
}

#[test]
fn kinds_of_later_versions_are_named_and_passed_over() {
    let mut data = sample();
    let block = places(&data)[2];
    data[block.offset + 8] = 9;
    mend(&mut data, &block);
    let found = scan(&data, Some(BEFORE), true);
    assert_eq!(codes(&found), [DamageCode::ChainBroken, DamageCode::UnknownKind]);
    assert!(found.sealed);
}

#[test]
fn lengths_beyond_all_bounds_are_told_from_torn_ends() {
    let mut data = sample();
    let last = places(&data)[6];
    data[last.offset..last.offset + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(codes(&scan(&data, Some(BEFORE), true)), [DamageCode::OversizedBlock]);
    data[last.offset..last.offset + 4].copy_from_slice(&1000_u32.to_le_bytes());
    assert_eq!(codes(&scan(&data, Some(BEFORE), true)), [DamageCode::Torn]);
}

#[test]
fn an_end_of_zeros_as_a_lost_page_leaves_it_is_torn() {
    let mut data = sample();
    let blocks = places(&data);
    let from = blocks[4].offset;
    data[from..].fill(0);
    let found = scan(&data, Some(BEFORE), true);
    assert_eq!(
        (codes(&found), found.blocks.iter().filter(|block| block.sound).count()),
        (vec![DamageCode::Torn], 4)
    );
}

#[test]
fn two_wounds_are_two_places() {
    let mut data = sample();
    let blocks = places(&data);
    data[blocks[3].body_start] ^= 1;
    data.truncate(blocks[5].body_start);
    let found = scan(&data, Some(BEFORE), true);
    assert_eq!(codes(&found), [DamageCode::ChecksumMismatch, DamageCode::Torn]);
    let mut data = sample();
    data[blocks[4].body_start] ^= 1;
    data.truncate(blocks[5].body_start);
    let found = scan(&data, Some(BEFORE), true);
    assert_eq!(codes(&found), [DamageCode::ChecksumMismatch, DamageCode::Torn]);
    assert_eq!(found.damage[1].offset, blocks[5].offset);
}

#[test]
fn a_search_through_hostile_bytes_ends_soon() {
    // Every fourth byte begins something that looks like a block of nearly the longest length.
    let mut data = sample();
    data.extend([1, 1, 15, 0].repeat(1 << 19));
    let found = scan(&data, Some(BEFORE), true);
    assert!(codes(&found).len() <= 3, "{:?}", found.damage.len());
    assert_eq!(found.blocks.iter().filter(|block| block.sound).count(), 7);
}

#[test]
fn a_body_beyond_the_limit_is_not_framed() {
    let mut chain = Chain::new(BEFORE);
    let mut out = Vec::new();
    assert_eq!(
        chain.frame(BlockKind::Records, &vec![0; MAX_BODY + 1], &mut out),
        Err(BodyTooLong(MAX_BODY + 1))
    );
    assert_eq!((chain.link(), chain.blocks(), out.len()), (BEFORE, 0, 0));
    assert_eq!(chain.frame(BlockKind::Records, &vec![0; MAX_BODY], &mut out), Ok(()));
    assert_eq!(out.len(), BLOCK_HEAD + MAX_BODY);
}

#[test]
fn the_format_stays_what_it_is() {
    let mut chain = Chain::new([0; LINK]);
    let mut out = Vec::new();
    assert_eq!(chain.frame(BlockKind::Records, b"abc", &mut out), Ok(()));
    let hex: String = out.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(hex, "03000000b03baa3a021115991584baf8069e04c341cc9a0e44616263");
    assert_eq!(BlockKind::Header.number(), 1);
    assert_eq!(BlockKind::Seal.number(), 3);
    assert_eq!((BlockKind::of(0), BlockKind::of(4)), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn anything_that_was_written_is_read_back(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)
    ) {
        let data = segment(&bodies);
        let found = scan(&data, Some(BEFORE), true);
        prop_assert!(found.damage.is_empty());
        let read: Vec<Vec<u8>> = found.blocks[1..found.blocks.len() - 1]
            .iter().map(|block| data[block.body_start..block.body_end].to_vec()).collect();
        prop_assert_eq!(read, bodies);
    }

    #[test]
    fn any_bytes_at_all_are_answered_and_nothing_false_is_sound(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        noise in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let whole = segment(&bodies);
        let originals: Vec<&[u8]> = places(&whole).iter().map(|b| &whole[b.offset..b.body_end]).collect();
        let mut data = whole.clone();
        for (place, value) in wounds {
            let place = place.index(data.len());
            data[place] = value;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        data.extend(noise);
        let found = scan(&data, Some(BEFORE), true);
        prop_assert_eq!(&found, &scan(&data, Some(BEFORE), true));
        prop_assert_eq!(found.damage.is_empty(), whole.starts_with(&data) && ends_between(&whole, data.len()));
        for block in found.blocks.iter().filter(|block| block.sound) {
            prop_assert!(originals.contains(&&data[block.offset..block.body_end]));
        }
    }

    #[test]
    fn noise_is_no_segment(noise in prop::collection::vec(any::<u8>(), 8..400)) {
        prop_assume!(noise[..8] != MAGIC);
        let found = scan(&noise, None, true);
        prop_assert_eq!(codes(&found), vec![DamageCode::NotASegment]);
        prop_assert!(found.blocks.is_empty());
    }
}

fn ends_between(whole: &[u8], end: usize) -> bool {
    end == MAGIC.len() || places(whole).iter().any(|block| block.body_end == end)
}
