//! The reader of exports: whatever the octets, rows rise, none is given out twice, and what verifies is what the header says.

use std::path::{Path, PathBuf};

use posthouse::Kind;
use posthouse::store::export::Export;
use posthouse::vfs::sim::Disk;
use posthouse::vfs::{Fs, Open};

pub fn run(data: &[u8]) {
    let disk = Disk::new();
    let Ok(file) = disk.open(Path::new("export"), Open::Create) else { return };
    file.write_at(data, 0).expect("memory");
    let export = match Export::of_file(file, PathBuf::from("export")) {
        Ok(export) => export,
        Err(e) => return assert!(matches!(e.kind(), Kind::Corrupt | Kind::FormatNewer), "{e}"),
    };
    assert_eq!(data[..8], export.title.encode()[..8]);
    let mut last = None;
    let (mut rows, mut bytes) = (0, 0);
    let read = export.read(&mut |n| bytes += n, &mut |space, key, _| {
        let now = Some((space, key.to_vec()));
        assert!(last < now, "rows rise");
        last = now;
        rows += 1;
        Ok(())
    });
    match read {
        Ok(counted) => {
            assert_eq!(counted, rows);
            assert_eq!(bytes, data.len() as u64 - 128 - 80);
        }
        Err(e) => assert_eq!(e.kind(), Kind::Corrupt, "{e}"),
    }
}
