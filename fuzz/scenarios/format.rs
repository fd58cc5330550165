//! The reader of FORMAT: whatever the octets, it judges and changes nothing; what it takes is what it would write.

use std::path::Path;

use posthouse::Kind;
use posthouse::store::format::{FILE, Format};
use posthouse::vfs::sim::Disk;
use posthouse::vfs::{Fs, Open, read_small};

pub fn run(data: &[u8]) {
    let disk = Disk::new();
    let dir = Path::new("/instance");
    disk.create_dir_all(dir).expect("memory");
    let path = dir.join(FILE);
    disk.open(&path, Open::Create).expect("memory").write_at(data, 0).expect("memory");
    match Format::read(&disk, dir) {
        Ok(format) => {
            assert!(format.min_reader <= 1 && format.incompat == 0 && format.ro_compat == 0);
            assert!((1..=16).contains(&format.lanes));
            format.write(&disk, dir).expect("memory");
            assert_eq!(Format::read(&disk, dir).expect("what was written"), format);
        }
        Err(e) => {
            assert!(matches!(e.kind(), Kind::Corrupt | Kind::FormatNewer), "{e}");
            assert_eq!(read_small(&disk, &path, u64::MAX).expect("memory"), data);
        }
    }
}
