//! A snapshot is a file of zstd's seekable format: a reader that knows nothing of us reads a
//! range out of it.

use std::{fs::File, io::Read as _};

use recorder_tests::synth::{Random, Synth};
use zeekstd::DecodeOptions;

use crate::scratch::Scratch;

#[test]
fn a_stock_reader_reads_ranges_and_only_the_frames_they_lie_in() {
    const RANGES: usize = 200;
    let scratch = Scratch::new();
    let file = Synth::random(11, 4, 60_000).write(scratch.path());
    let open = || File::open(&file).expect("the snapshot");
    let whole = zstd::stream::decode_all(open()).expect("zstd reads all of it");
    let bytes = open().metadata().expect("its length").len();
    let mut random = Random::new(12);
    let mut compressed = 0;
    for _ in 0..RANGES {
        let from = random.below(whole.len() as u64);
        let to = from + 1 + random.below((whole.len() as u64 - from).min(20_000));
        let options = DecodeOptions::new(open()).offset(from).offset_limit(to);
        let mut decoder = options.into_decoder().expect("a seek table");
        let mut range = Vec::new();
        decoder.read_to_end(&mut range).expect("a range");
        assert!(range == whole[from as usize..to as usize], "{from} to {to}");
        compressed += decoder.read_compressed();
    }
    let mean = compressed / RANGES as u64;
    assert!(mean < bytes / 4, "{mean} of {bytes} bytes are read for a short range");
}
