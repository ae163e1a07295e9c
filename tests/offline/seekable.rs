//! A snapshot is a file of zstd's seekable format: a reader that knows nothing of us reads a
//! range out of it.

use std::fs;

use recorder_tests::synth::{Random, Synth};
use zstd_safe::seekable::Seekable;

use crate::scratch::Scratch;

#[test]
fn the_reader_of_zstd_reads_ranges_of_a_snapshot() {
    let scratch = Scratch::new();
    let file = Synth::random(11, 4, 60_000).write(scratch.path());
    let bytes = fs::read(&file).expect("the snapshot");
    let whole = zstd::stream::decode_all(bytes.as_slice()).expect("zstd reads all of it");
    let mut reader = Seekable::create();
    reader.init_buff(&bytes).expect("a seek table");
    let frames = reader.num_frames();
    let decompressed: usize =
        (0..frames).map(|frame| reader.frame_decompressed_size(frame).expect("a frame")).sum();
    assert!(frames > 10 && decompressed == whole.len(), "{frames} frames of {decompressed} bytes");
    let mut random = Random::new(12);
    for _ in 0..200 {
        let from = random.below(whole.len() as u64);
        let length = 1 + random.below((whole.len() as u64 - from).min(20_000)) as usize;
        let mut range = vec![0; length];
        let read = reader.decompress(range.as_mut_slice(), from).expect("a range");
        let from = from as usize;
        assert!(read == length && range == whole[from..from + length], "{length} bytes at {from}");
    }
}
